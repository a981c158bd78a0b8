/* The certificate that TLS listeners show. Loaded anew while they serve, for connections to come. */
#pragma once

#include <gnutls/abstract.h>

#include "proto/err.h"

struct tls;

/* PEM files: a chain that begins with the server's own certificate, and its key without a passphrase.
 * -EINVAL (or the file's errno) names the file and what is wrong with it. The names are copied. */
int tls_create(struct tls **out, const char *cert, const char *key, struct err *e);
/* Reads the files again. After a failure the old certificate stays. */
int tls_reload(struct tls *t, struct err *e);
void tls_destroy(struct tls *t); /* NULL is fine */
/* Before the handshake: this session is t's. */
void tls_take(struct tls *t, gnutls_session_t session);
/* gnutls_certificate_retrieve_function2: what a session that was taken shows. */
int tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int authority_count,
	       const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
	       unsigned *chain_len, gnutls_privkey_t *key);
