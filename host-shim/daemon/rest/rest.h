/* The REST routes: parse, call a verb in boxes/ or executions/, print. No frames and no SQL here. */
#pragma once

#include "host-shim/daemon/archives/archives.h"
#include "host-shim/daemon/auth/auth.h"
#include "host-shim/daemon/boxes/boxes.h"
#include "host-shim/daemon/executions/executions.h"
#include "host-shim/daemon/http/http.h"
#include "host-shim/daemon/images/images.h"
#include "host-shim/daemon/replay/replay.h"
#include "host-shim/daemon/volumes/volumes.h"

struct rest; /* the app of the HTTP server's routes */

struct rest_config {
	uv_loop_t *loop;
	struct boxes *boxes;
	struct archives *archives;
	struct images *images;
	struct executions *executions;
	struct volumes *volumes;
	struct auth *auth;
	struct tunnels *tunnels;
	struct replay *replay;
	unsigned hold_ms; /* half a code point that is still half by then is sent as it is, 0: 10 s */
};
int rest_create(struct rest **out, const struct rest_config *c, struct err *e);
void rest_destroy(struct rest *rest); /* after http_server_destroy */
/* Fills routes, prefixes, app and authorize of an http_config. */
void rest_serve(struct rest *rest, struct http_config *http);
