/* The box's tenon-net, which answers what the guest sends (host-shim/net/): a process of its own, so that
 * what a guest may break there is neither QEMU nor us. */
#pragma once

#include <sys/types.h>

#include "proto/err.h"

struct network {
	pid_t pid; /* 0: not started, or reaped */
	int pidfd;
	int card;   /* for QEMU: a datagram socket, a frame each */
	int output; /* non-blocking: tenon-net's stderr, one line before it fails */
};

void network_init(struct network *n);
/* Starts the tenon-net that lies beside this program. It ends with this process at the latest. */
int network_start(struct network *n, struct err *e);
/* Once pidfd is readable: reaps it and tells what became of it. */
void network_describe_end(struct network *n, char *text, size_t cap);
void network_finish(struct network *n);
