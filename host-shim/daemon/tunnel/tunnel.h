/* Tunnels: a TCP port of this host for a TCP port in a box. A client sends HTTP CONNECT, whatever authority
 * it names, and gets raw bytes; or it speaks to the service at once, so that an HTTP client needs nothing
 * new. Each connection is a bulk connection of the agent.
 *
 * A published port of docker is everybody's. This one is for the users of this machine who asked for it, for
 * tenond's own and for root: the kernel says whose process is at the other end. */
#pragma once

#include <sys/types.h>
#include <uv.h>

#include "host-shim/daemon/boxes/boxes.h"

#define TUNNELS_MAX 256      /* listeners */
#define TUNNEL_CONNS_MAX 256 /* connections of all: as many as one agent takes */
#define TUNNEL_HEAD_MAX 8192 /* bytes of a CONNECT request … */
#define TUNNEL_HEAD_MS 10000 /* … and how long it may take */
#define TUNNEL_USERS_MAX 16  /* of one tunnel; the first who asked is forgotten for a seventeenth */
#define TUNNEL_NOBODY ((uid_t)-1)

struct tunnels;

int tunnels_create(struct tunnels **out, uv_loop_t *loop, struct boxes *boxes, struct err *e);
void tunnels_destroy(struct tunnels *ts); /* and every connection; NULL is fine */
/* The host port on 127.0.0.1 for this port of the box, made if there is none; it goes with the box. From now
 * on user may connect; TUNNEL_NOBODY: one that is not known, or of another machine. -EMFILE if there are too
 * many. */
int tunnels_open(struct tunnels *ts, const char *box_id, uint16_t port, uid_t user, uint16_t *out,
		 struct err *e);
/* Ends it, and its connections. -ENOENT if there is none. */
int tunnels_close(struct tunnels *ts, const char *box_id, uint16_t port);
