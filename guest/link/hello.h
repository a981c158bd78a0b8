/* The first frame of a connection (WIRE.md §3). */
#pragma once

#include "guest/link/link.h"

enum hello_verdict { HELLO_MAIN, HELLO_BULK };

/* Judges the host's HELLO. Returns what the connection is from now on; the agent's HELLO is queued. -EPROTO
 * with *e: malformed. -EACCES with *f: refused; the agent's HELLO is queued, GOAWAY is due. */
int hello_receive(struct link *l, struct conn *c, const struct frame *frame, struct fault *f, struct err *e);
