/* Where connections come in. Keeps trying when it cannot listen: an agent without a link is still PID 1. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "guest/loop.h"

struct listener {
	struct loop *loop;
	struct source source;
	struct timer retry;
	int fd;
	struct sockaddr_storage address;
	socklen_t address_len;
	bool complained;
	void (*accepted)(struct listener *l, int fd); /* takes a non-blocking, close-on-exec fd */
	void (*listening)(struct listener *l);        /* once, when it can be dialled */
};

/* "vsock:PORT" (peers of CID 2 only) or "unix:PATH" (a stale socket is replaced). 0, or -EINVAL with *e. */
int listener_parse(struct listener *l, const char *where, struct err *e);

void listener_start(struct listener *l);

/* Goes on with a socket that listens already; takes fd. */
void listener_adopt(struct listener *l, int fd);

/* Leaves connections in the backlog, until it is resumed. */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
