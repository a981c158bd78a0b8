/* Who may call, what, and for whom: the admin key of this tenond, keys and tokens that it has issued, the
 * owner of the unix socket; or everybody, on loopback only, with --no-auth. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "credentials.h"
#include "host-shim/daemon/http/http.h"
#include "tenants.h"

struct auth;

struct auth_config {
	struct store *store;
	const char *state_dir; /* admin.key (0600) is made here at the first start */
	const char *key_file;  /* instead of it: the first line of this file; NULL: state_dir/admin.key */
	bool no_auth;          /* the caller has made sure that every listener is loopback */
};
int auth_create(struct auth **out, const struct auth_config *c, struct err *e);
void auth_destroy(struct auth *a); /* after the store is closed */

/* The one who calls. Strings are valid until the next turn of the loop. */
struct principal {
	const char *id, *name;
	const char *prefix; /* the only one it sees; NULL: all */
	unsigned scopes;    /* of scopes.h */
	int64_t expires_ms; /* 0: never */
};
/* Only while a handler is called, as the headers are gone later. False: nobody that we know, or know any
 * more; out has no scope then. */
bool auth_principal(struct auth *a, struct http_request *r, struct principal *out);
/* The prefix that a request means: the URL's, else the caller's own, else the default. NULL: it was removed,
 * or the key was, after the request began. As auth_principal, only while a handler is called. */
const struct tenant *auth_tenant(struct auth *a, struct http_request *r);

/* For http_config.greet: tokens of /oauth/tokens belong to the dialect whose error codes are numbers. */
void auth_greet(struct http_request *r);
/* For http_config.authorize: true, or false after a 401, 403 or, for another's prefix, 404. */
bool auth_allows(struct auth *a, struct http_request *r);

struct tenants *auth_tenants(struct auth *a);
struct credentials *auth_credentials(struct auth *a);
