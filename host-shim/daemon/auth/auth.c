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

#define KEY_PREFIX "tenon_"
#define KEY_MIN 16 /* characters of a key that somebody else made */

struct auth {
	bool no_auth;
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
	_cleanup_free_ struct auth *a = calloc(1, sizeof *a);
	_cleanup_free_ char *path = NULL;
	if (!a || (c->key_file ? asprintf(&path, "%s", c->key_file)
			       : asprintf(&path, "%s/admin.key", c->state_dir)) < 0)
		return err_sys(e, "auth", ENOMEM, "no memory");
	a->no_auth = c->no_auth;
	int r = 0;
	if (!c->key_file && access(path, F_OK) < 0)
		r = make_key(path, e);
	if (r == 0)
		r = read_key(a, path, e);
	if (r == 0)
		*out = steal_ptr(&a);
	return r;
}

void auth_destroy(struct auth *a)
{
	free(a);
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

bool auth_allows(const struct auth *a, struct http_request *r)
{
	if (http_from_unix(r))
		return true;
	if (a->no_auth) {
		if (not_from_a_page(r))
			return true;
		http_reply_error(
			r, HTTP_PERMISSION_DENIED,
			"without a key only requests to a loopback name from no other origin are served");
		return false;
	}
	const char *sent = http_header(r, "Authorization");
	if (sent && strncasecmp(sent, "Bearer ", 7) == 0) {
		uint8_t sent_hash[SHA256_DIGEST_SIZE];
		sent += 7 + strspn(sent + 7, " ");
		hash(sent, strlen(sent), sent_hash);
		if (memeql_sec(sent_hash, a->hash, sizeof a->hash))
			return true;
	}
	http_set_header(r, "WWW-Authenticate", "Bearer");
	http_reply_error(r, HTTP_UNAUTHENTICATED,
			 sent ? "the key is not valid" : "a key is needed: Authorization: Bearer");
	return false;
}
