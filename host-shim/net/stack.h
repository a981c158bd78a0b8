/* libslirp between the guest's frames and the host's sockets: the stack of QEMU's user network, here in a
 * process of its own. */
#pragma once

#include <poll.h>
#include <slirp/libslirp.h>
#include <stdint.h>

#include "proto/err.h"

/* Connections and UDP flows of a box that may be open at once; the next are refused. With libslirp's buffers
 * of up to 256 KiB each this also bounds its memory. */
#define STACK_SOCKETS_MAX 1024
/* Descriptors that are no socket of the guest's: stdio, the guest, and a file that libslirp reads. */
#define STACK_FDS_RESERVED 8

struct stack {
	int guest; /* borrowed: a datagram socket, one frame each */
	Slirp *slirp;
	struct pollfd fds[1 + STACK_SOCKETS_MAX];
	nfds_t n_fds;
	uint8_t frame[64 * 1024];
};

int stack_init(struct stack *s, int guest, struct err *e);
/* Serves the guest; returns only a failure. */
int stack_run(struct stack *s, struct err *e);
