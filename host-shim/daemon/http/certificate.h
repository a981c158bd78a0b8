/* The certificate that TLS listeners show. Loaded anew while they serve, for connections to come. */
#pragma once

#include <gnutls/gnutls.h>

#include "proto/err.h"

struct certificate;

/* PEM files: a chain that begins with the server's own certificate, and its key without a passphrase.
 * -EINVAL (or the file's errno) names the file and what is wrong with it. The names are copied. */
int certificate_create(struct certificate **out, const char *chain, const char *key, struct err *e);
/* Reads the files again. After a failure the old one stays. */
int certificate_reload(struct certificate *c, struct err *e);
void certificate_destroy(struct certificate *c); /* NULL is fine; sessions go on */

/* A server's session that shows what is loaded now, and holds on to it. NULL: no memory. `flags` are those of
 * gnutls_init. */
gnutls_session_t certificate_session(struct certificate *c, unsigned flags);
void certificate_session_end(gnutls_session_t session); /* NULL is fine */
