/* What tenon-flatten gives up before it looks at the first byte of a layer: everything but reading and
 * writing what it has open, and memory. */
#pragma once

#include "proto/err.h"

/* Limits of memory, time and files, no new privileges, and a seccomp filter that answers EPERM to all other
 * calls. For a program with one thread. */
int confine(struct err *e);
