#include "certificate.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define FILE_MAX (1u << 20)
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct identity {
	unsigned refs; /* the certificate's, those of sessions */
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priorities;
};

struct certificate {
	char *chain, *key;
	struct identity *now;
};

static void identity_unref(struct identity *i)
{
	if (!i || --i->refs)
		return;
	if (i->credentials)
		gnutls_certificate_free_credentials(i->credentials);
	if (i->priorities)
		gnutls_priority_deinit(i->priorities);
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

static int load(const struct certificate *c, struct identity *i, struct err *e)
{
	gnutls_datum_t chain = {0}, key = {0};
	int r = read_file(c->chain, &chain, e);
	if (r == 0)
		r = read_file(c->key, &key, e);
	if (r == 0) {
		int loaded = gnutls_certificate_allocate_credentials(&i->credentials);
		if (loaded == 0)
			loaded = gnutls_certificate_set_x509_key_mem2(i->credentials, &chain, &key,
								      GNUTLS_X509_FMT_PEM, NULL, 0);
		if (loaded >= 0)
			loaded = gnutls_priority_init(&i->priorities, PRIORITIES, NULL);
		if (loaded < 0)
			r = err_set(e, "tls", EINVAL, "%s and %s: %s", c->chain, c->key,
				    gnutls_strerror(loaded));
	}
	if (key.data)
		explicit_bzero(key.data, key.size);
	free(key.data);
	free(chain.data);
	return r;
}

int certificate_reload(struct certificate *c, struct err *e)
{
	struct identity *i = calloc(1, sizeof *i);
	if (!i)
		return err_sys(e, "tls", ENOMEM, "no memory");
	i->refs = 1;
	int r = load(c, i, e);
	if (r < 0) {
		identity_unref(i);
		return r;
	}
	identity_unref(c->now);
	c->now = i;
	return 0;
}

int certificate_create(struct certificate **out, const char *chain, const char *key, struct err *e)
{
	struct certificate *c = calloc(1, sizeof *c);
	if (!c || !(c->chain = strdup(chain)) || !(c->key = strdup(key))) {
		certificate_destroy(c);
		return err_sys(e, "tls", ENOMEM, "no memory");
	}
	int r = certificate_reload(c, e);
	if (r < 0)
		certificate_destroy(c);
	else
		*out = c;
	return r;
}

void certificate_destroy(struct certificate *c)
{
	if (!c)
		return;
	identity_unref(c->now);
	free(c->chain);
	free(c->key);
	free(c);
}

gnutls_session_t certificate_session(struct certificate *c, unsigned flags)
{
	gnutls_session_t session;
	if (gnutls_init(&session, GNUTLS_SERVER | flags) < 0)
		return NULL;
	if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->now->credentials) < 0 ||
	    gnutls_priority_set(session, c->now->priorities) < 0) {
		gnutls_deinit(session);
		return NULL;
	}
	c->now->refs++;
	gnutls_session_set_ptr(session, c->now);
	return session;
}

void certificate_session_end(gnutls_session_t session)
{
	if (!session)
		return;
	struct identity *i = gnutls_session_get_ptr(session);
	gnutls_deinit(session);
	identity_unref(i);
}
