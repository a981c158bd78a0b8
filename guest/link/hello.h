/* The first frame of a connection (WIRE.md §3). */
#pragma once

#include "guest/link/link.h"

/* Judges the host's HELLO. Returns 0: the connection is the main one now, and has the agent's HELLO queued.
 * -EPROTO with *e: malformed. -EACCES with *f: refused; the agent's HELLO is queued, GOAWAY is due. */
int hello_receive(struct link *l, struct conn *c, const struct frame *frame, struct fault *f, struct err *e);
