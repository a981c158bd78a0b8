#include "host-shim/daemon/tunnel/tunnel.h"

#include <errno.h>

#include "internal.h"

/* False: it has replied. */
static bool find(struct rest *rest, struct http_request *r, struct box_info *info, uint16_t *port)
{
	struct box *b = rest_box(rest, r);
	uint64_t asked;
	if (!b || !rest_query_int(r, "port", 1, 65535, 0, &asked))
		return false;
	if (!asked) {
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "port"),
				      "port is missing");
		return false;
	}
	box_get_info(b, info);
	*port = (uint16_t)asked;
	return true;
}

/* POST …/network/tunnel?port=N: repeating it gives the same descriptor. The box is started by who connects.
 */
void rest_tunnel(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct box_info info;
	uint16_t port, host_port;
	uid_t user = TUNNEL_NOBODY;
	struct err e = {0};
	if (!find(rest, r, &info, &port))
		return;
	http_peer_uid(r, &user);
	int opened = tunnels_open(rest->config.tunnels, info.id, port, user, &host_port, &e);
	if (opened < 0) {
		http_reply_error(r, opened == -EMFILE ? HTTP_RESOURCE_EXHAUSTED : HTTP_NETWORK_UNAVAILABLE,
				 "%s", e.msg);
		return;
	}
	char uri[64];
	snprintf(uri, sizeof uri, "http://127.0.0.1:%u", host_port);
	http_reply_json(r, 200, json_pack("{s:s}", "uri", uri));
}

/* DELETE …/network/tunnel?port=N, as newer clients revoke one. */
void rest_revoke_tunnel(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct box_info info;
	uint16_t port;
	if (!find(rest, r, &info, &port))
		return;
	if (tunnels_close(rest->config.tunnels, info.id, port) < 0)
		http_reply_error(r, HTTP_NOT_FOUND, "there is no tunnel to port %u of this box", port);
	else
		http_reply_empty(r, 204);
}
