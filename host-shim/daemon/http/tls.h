/* TLS in front of MHD: each connection is a relay between its socket and one end of a socket pair, whose
 * other end MHD takes for a plain connection.
 *
 * MHD's own TLS is not used: once a connection is upgraded, libmicrohttpd 0.9.75 moves its bytes through what
 * is left of the connection's memory, which is nothing after a reply, and so four at a time. */
#pragma once

#include <uv.h>

#include "proto/err.h"

struct tls;
struct tls_conn;

/* The certificate's files, as certificate.h has them. */
int tls_create(struct tls **out, uv_loop_t *loop, const char *chain, const char *key, struct err *e);
/* Reads them again, for connections to come. After a failure the old certificate stays. */
int tls_reload(struct tls *t, struct err *e);
void tls_destroy(struct tls *t); /* with all connections; NULL is fine */

/* Takes the non-blocking `socket` of a client, also when it fails: NULL. *plain is the caller's: a
 * non-blocking socket with what the client says, its end of file included, and for what it is to be told. */
struct tls_conn *tls_accept(struct tls *t, int socket, int *plain);
/* The caller has closed `plain`. What it had written still goes out, for some seconds; then c is freed. */
void tls_conn_end(struct tls_conn *c);
int tls_conn_socket(const struct tls_conn *c); /* borrowed */
