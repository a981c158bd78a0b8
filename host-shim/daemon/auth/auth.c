#include "auth.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <nettle/base16.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "proto/cleanup.h"
#include "scopes.h"

#define KEY_PREFIX "tenon_"
#define KEY_MIN 16 /* characters of a key that somebody else made */

struct auth {
	bool no_auth;
	struct tenants *tenants;
	struct credentials *credentials;
	uint8_t hash[SHA256_DIGEST_SIZE];
};

static void hash(const char *key, size_t len, uint8_t out[SHA256_DIGEST_SIZE])
{
	struct sha256_ctx c;
	sha256_init(&c);
	sha256_update(&c, len, (const uint8_t *)key);
	sha256_digest(&c, SHA256_DIGEST_SIZE, out);
}

/* ---- the key file ---- */

/* Written beside and renamed, so that a file which exists is always whole. */
static int make_key(const char *path, struct err *e)
{
	uint8_t random[32];
	if (getrandom(random, sizeof random, 0) != sizeof random)
		return err_sys(e, "auth", EIO, "no random bytes");
	char key[sizeof KEY_PREFIX + 2 * sizeof random + 1] = KEY_PREFIX;
	char *at = key + strlen(KEY_PREFIX);
	base16_encode_update(at, sizeof random, random);
	strcpy(at + 2 * sizeof random, "\n");
	_cleanup_free_ char *beside = NULL;
	if (asprintf(&beside, "%s.new", path) < 0)
		return err_sys(e, "auth", ENOMEM, "no memory");
	unlink(beside);
	_cleanup_close_ int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, key, strlen(key)) != (ssize_t)strlen(key) || fsync(fd) < 0 ||
	    rename(beside, path) < 0)
		return err_sys(e, "auth", errno, "cannot write %s", path);
	return 0;
}

static int read_key(struct auth *a, const char *path, struct err *e)
{
	char text[512];
	struct stat st;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "auth", errno, "cannot open %s", path);
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "auth", errno, "cannot read %s", path);
	if (st.st_mode & 0077)
		return err_set(e, "auth", EPERM, "%s can be read by others: its mode must be 0600", path);
	text[n] = '\0';
	size_t len = strcspn(text, "\r\n");
	if (len < KEY_MIN)
		return err_set(e, "auth", EINVAL, "the key in %s is shorter than %d characters", path,
			       KEY_MIN);
	hash(text, len, a->hash);
	explicit_bzero(text, sizeof text);
	return 0;
}

int auth_create(struct auth **out, const struct auth_config *c, struct err *e)
{
	struct auth *a = calloc(1, sizeof *a);
	_cleanup_free_ char *path = NULL;
	if (!a || (c->key_file ? asprintf(&path, "%s", c->key_file)
			       : asprintf(&path, "%s/admin.key", c->state_dir)) < 0) {
		free(a);
		return err_sys(e, "auth", ENOMEM, "no memory");
	}
	a->no_auth = c->no_auth;
	int r = 0;
	if (!c->key_file && access(path, F_OK) < 0)
		r = make_key(path, e);
	if (r == 0)
		r = read_key(a, path, e);
	if (r == 0)
		r = tenants_create(&a->tenants, c->store, e);
	if (r == 0)
		r = credentials_create(&a->credentials, c->store, e);
	if (r == 0)
		*out = a;
	else
		auth_destroy(a);
	return r;
}

void auth_destroy(struct auth *a)
{
	if (!a)
		return;
	credentials_destroy(a->credentials);
	tenants_destroy(a->tenants);
	free(a);
}

struct tenants *auth_tenants(struct auth *a)
{
	return a->tenants;
}

struct credentials *auth_credentials(struct auth *a)
{
	return a->credentials;
}

/* ---- requests ---- */

/* Whether a Host header names this machine: a page that a browser got under another name (DNS rebinding) does
 * not. */
static bool host_is_loopback(const char *host)
{
	char name[64];
	size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	if (len >= sizeof name)
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	struct in_addr four;
	if (strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, name, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

/* Without a key, a browser on this machine could be made to call us by any page it shows. Its requests tell:
 * they name the page's origin, or a host that is not this one. */
static bool not_from_a_page(struct http_request *r)
{
	const char *origin = http_header(r, "Origin"), *host = http_header(r, "Host");
	const char *authority = origin ? strstr(origin, "://") : NULL;
	if (host && !host_is_loopback(host))
		return false;
	return !origin || (authority && host && strcasecmp(authority + 3, host) == 0);
}

static const char *bearer(const struct http_request *r)
{
	const char *sent = http_header(r, "Authorization");
	if (!sent || strncasecmp(sent, "Bearer ", 7) != 0)
		return NULL;
	return sent + 7 + strspn(sent + 7, " ");
}

void auth_greet(struct http_request *r)
{
	const char *sent = bearer(r);
	if (sent && credentials_is_token(sent))
		http_use_numeric_codes(r);
}

static bool is_admin(const struct auth *a, const char *sent)
{
	uint8_t sent_hash[SHA256_DIGEST_SIZE];
	hash(sent, strlen(sent), sent_hash);
	return memeql_sec(sent_hash, a->hash, sizeof a->hash);
}

/* Whoever sends a key of somebody is that one, also where none is needed. */
bool auth_principal(struct auth *a, struct http_request *r, struct principal *out)
{
	const char *sent = bearer(r);
	const struct credential *c =
		sent && !http_from_unix(r) ? credentials_check(a->credentials, sent) : NULL;
	bool known = c || http_from_unix(r) || a->no_auth || (sent && is_admin(a, sent));
	if (c)
		*out = (struct principal){.id = c->id,
					  .name = c->name,
					  .prefix = c->prefix,
					  .scopes = c->scopes | SCOPE_ME,
					  .expires_ms = c->expires_ms};
	else if (known)
		*out = (struct principal){.id = "admin", .name = "tenon admin", .scopes = SCOPE_ALL};
	else
		*out = (struct principal){.id = "", .name = ""};
	return known;
}

const struct tenant *auth_tenant(struct auth *a, struct http_request *r)
{
	struct principal p;
	const char *prefix = http_prefix(r);
	/* Asked again: a key may have been revoked, or be over, since the head of the request came. */
	if (!auth_principal(a, r, &p))
		return NULL;
	if (!prefix[0])
		prefix = p.prefix ? p.prefix : TENANT_DEFAULT;
	return tenants_find(a->tenants, prefix);
}

static bool refuse_scope(struct http_request *r, unsigned wanted)
{
	const char *name = scopes_name(wanted);
	http_reply_error(r, HTTP_PERMISSION_DENIED, "this needs %s%s",
			 name ? "the scope " : "the admin key of this tenond", name ? name : "");
	return false;
}

bool auth_allows(struct auth *a, struct http_request *r)
{
	struct principal p;
	/* A route that names no scope is the admin's alone: to forget one must not open it. */
	unsigned wanted = http_route_of(r)->scopes ? http_route_of(r)->scopes : SCOPE_ADMIN;
	if (!auth_principal(a, r, &p)) {
		bool sent = http_header(r, "Authorization");
		http_set_header(r, "WWW-Authenticate", "Bearer");
		http_reply_error(r, HTTP_UNAUTHENTICATED,
				 sent ? "the key is not valid" : "a key is needed: Authorization: Bearer");
		return false;
	}
	if (a->no_auth && !http_from_unix(r) && !not_from_a_page(r)) {
		http_reply_error(
			r, HTTP_PERMISSION_DENIED,
			"without a key only requests to a loopback name from no other origin are served");
		return false;
	}
	/* Another's prefix looks like one that is not there. */
	if (p.prefix && http_prefix(r)[0] && strcmp(p.prefix, http_prefix(r)) != 0) {
		http_reply_error(r, HTTP_NOT_FOUND,
				 "the first segment after /v1 is neither a resource nor a known prefix");
		return false;
	}
	return (p.scopes & wanted) || refuse_scope(r, wanted);
}
