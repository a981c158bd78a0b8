/* Who may call: one admin key, whose hash is compared in constant time; the owner of the unix socket; or
 * everybody, on loopback only, with --no-auth. */
#pragma once

#include <stdbool.h>

#include "host-shim/daemon/http/http.h"

struct auth;

struct auth_config {
	const char *state_dir; /* admin.key (0600) is made here at the first start */
	const char *key_file;  /* instead of it: the first line of this file; NULL: state_dir/admin.key */
	bool no_auth;          /* the caller has made sure that every listener is loopback */
};
int auth_create(struct auth **out, const struct auth_config *c, struct err *e);
void auth_destroy(struct auth *a);
/* For http_config.authorize: true, or false after a 401 or 403. */
bool auth_allows(const struct auth *a, struct http_request *r);
