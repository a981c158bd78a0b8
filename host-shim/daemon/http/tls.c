#include "tls.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cleanup.h"
#include "proto/clock.h"

#define CHAIN_MAX 16
#define FILE_MAX (1u << 20)
#define RETIRED_MS 120000 /* a handshake is over, one way or the other, long before */

struct identity {
	struct identity *next; /* retired before this one */
	uint64_t retired_ms;
	gnutls_pcert_st chain[CHAIN_MAX];
	unsigned chain_len;
	gnutls_privkey_t key;
};

struct tls {
	char *cert, *key;
	struct identity *now; /* and those behind it that a handshake may still use */
};

static void identity_destroy(struct identity *i)
{
	if (!i)
		return;
	for (unsigned n = 0; n < i->chain_len; n++)
		gnutls_pcert_deinit(&i->chain[n]);
	gnutls_privkey_deinit(i->key);
	free(i);
}

static int read_file(const char *path, gnutls_datum_t *out, struct err *e)
{
	struct stat st;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "tls", errno, "cannot open %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FILE_MAX)
		return err_set(e, "tls", EINVAL, "%s is not a PEM file", path);
	_cleanup_free_ unsigned char *text = malloc((size_t)st.st_size);
	ssize_t n = text ? read(fd, text, (size_t)st.st_size) : -1;
	if (n < 0)
		return err_sys(e, "tls", text ? errno : ENOMEM, "cannot read %s", path);
	*out = (gnutls_datum_t){.data = steal_ptr(&text), .size = (unsigned)n};
	return 0;
}

/* GnuTLS compares the two, which the calls that load each by itself do not. */
static int check_pair(const struct tls *t, const gnutls_datum_t *cert, const gnutls_datum_t *key,
		      struct err *e)
{
	gnutls_certificate_credentials_t pair;
	int r = gnutls_certificate_allocate_credentials(&pair);
	if (r == 0) {
		r = gnutls_certificate_set_x509_key_mem2(pair, cert, key, GNUTLS_X509_FMT_PEM, NULL, 0);
		gnutls_certificate_free_credentials(pair);
	}
	return r < 0 ? err_set(e, "tls", EINVAL, "%s and %s: %s", t->cert, t->key, gnutls_strerror(r)) : 0;
}

static int load_key(struct identity *i, const gnutls_datum_t *key)
{
	int r = gnutls_privkey_init(&i->key);
	return r < 0 ? r : gnutls_privkey_import_x509_raw(i->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
}

static int load(struct tls *t, struct identity *i, struct err *e)
{
	gnutls_datum_t cert = {0}, key = {0};
	unsigned count = CHAIN_MAX;
	int r = read_file(t->cert, &cert, e);
	if (r == 0)
		r = read_file(t->key, &key, e);
	if (r == 0)
		r = check_pair(t, &cert, &key, e);
	int loaded = r < 0 ? 0
			   : gnutls_pcert_list_import_x509_raw(i->chain, &count, &cert, GNUTLS_X509_FMT_PEM,
							       GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);
	if (r == 0 && loaded == 0) {
		i->chain_len = count;
		loaded = load_key(i, &key);
	}
	if (r == 0 && loaded < 0)
		r = err_set(e, "tls", EINVAL, "%s and %s: %s", t->cert, t->key, gnutls_strerror(loaded));
	if (key.data)
		explicit_bzero(key.data, key.size);
	free(key.data);
	free(cert.data);
	return r;
}

int tls_reload(struct tls *t, struct err *e)
{
	struct identity *i = calloc(1, sizeof *i);
	int r = i ? load(t, i, e) : err_sys(e, "tls", ENOMEM, "no memory");
	if (r < 0) {
		identity_destroy(i);
		return r;
	}
	uint64_t now = clock_ms(CLOCK_MONOTONIC);
	if (t->now)
		t->now->retired_ms = now;
	i->next = t->now;
	t->now = i;
	struct identity **at = &i->next;
	while (*at && now - (*at)->retired_ms < RETIRED_MS)
		at = &(*at)->next;
	while (*at) {
		struct identity *old = *at;
		*at = old->next;
		identity_destroy(old);
	}
	return 0;
}

int tls_create(struct tls **out, const char *cert, const char *key, struct err *e)
{
	struct tls *t = calloc(1, sizeof *t);
	if (!t || !(t->cert = strdup(cert)) || !(t->key = strdup(key))) {
		tls_destroy(t);
		return err_sys(e, "tls", ENOMEM, "no memory");
	}
	int r = tls_reload(t, e);
	if (r < 0)
		tls_destroy(t);
	else
		*out = t;
	return r;
}

void tls_destroy(struct tls *t)
{
	if (!t)
		return;
	while (t->now) {
		struct identity *i = t->now;
		t->now = i->next;
		identity_destroy(i);
	}
	free(t->cert);
	free(t->key);
	free(t);
}

void tls_take(struct tls *t, gnutls_session_t session)
{
	gnutls_session_set_ptr(session, t);
}

int tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int authority_count,
	       const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
	       unsigned *chain_len, gnutls_privkey_t *key)
{
	(void)authorities;
	(void)authority_count;
	(void)algorithms;
	(void)algorithm_count;
	const struct tls *t = gnutls_session_get_ptr(session);
	*chain = t->now->chain;
	*chain_len = t->now->chain_len;
	*key = t->now->key;
	return 0;
}
