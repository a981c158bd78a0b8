#include "host-shim/daemon/tunnel/tunnel.h"

#include <errno.h>

#include "internal.h"

/* POST …/network/tunnel?port=N: repeating it gives the same descriptor. The box is started by who connects.
 */
void rest_tunnel(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct box *b = rest_box(rest, r);
	uint64_t port;
	uint16_t host_port;
	struct err e = {0};
	if (!b || !rest_query_int(r, "port", 1, 65535, 0, &port))
		return;
	if (!port) {
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "port"),
				      "port is missing");
		return;
	}
	struct box_info info;
	box_get_info(b, &info);
	int opened = tunnels_open(rest->config.tunnels, info.id, (uint16_t)port, &host_port, &e);
	if (opened < 0) {
		http_reply_error(r, opened == -EMFILE ? HTTP_RESOURCE_EXHAUSTED : HTTP_NETWORK_UNAVAILABLE,
				 "%s", e.msg);
		return;
	}
	char uri[64];
	snprintf(uri, sizeof uri, "http://127.0.0.1:%u", host_port);
	http_reply_json(r, 200, json_pack("{s:s}", "uri", uri));
}
