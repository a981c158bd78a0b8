/* What the files of this room share. */
#pragma once

#include <sys/queue.h>

#include "tunnel.h"

struct tunnel_conn;

struct tunnel {
	LIST_ENTRY(tunnel) entry;
	struct tunnels *tunnels;
	char box_id[129];
	uint16_t port, host_port;
	int fd;
	uid_t users[TUNNEL_USERS_MAX]; /* who may connect, in the order in which they asked */
	unsigned user_count;
	uv_poll_t poll;
};

struct tunnels {
	uv_loop_t *loop;
	struct boxes *boxes;
	LIST_HEAD(, tunnel) list;
	LIST_HEAD(, tunnel_conn) conns;
	unsigned count, conn_count;
	bool asked_kernel, blind; /* the kernel does not tell whose a connection is: everybody may connect */
};

/* conn.c */
/* Takes fd, also when it fails. */
void tunnel_conn_create(struct tunnel *t, int fd);
void tunnel_conn_destroy(struct tunnel_conn *c);
/* Ends the connections of this tunnel. */
void tunnel_conns_end(struct tunnel *t);
