/* Connecting to an agent, directly or through tenon-vmm. */
#pragma once

#include <stdbool.h>

#include "proto/err.h"
#include "proto/frame.h"

/* A non-blocking socket, connected to path; -errno. */
int dial_unix(const char *path, struct err *e);
/* Takes tenon-vmm's answer to CONNECT out of r. False while the line is not whole, and with *e set if it is
 * another. */
bool dial_hear_greeting(struct frame_reader *r, struct err *e);
