/* The default seccomp profile: of docker's reach. What a program needs that has no business with the machine
 * itself is allowed, and more with the capabilities that are there for it. What this libseccomp knows and is
 * not allowed is EPERM; what it does not know ENOSYS, so that a newer libc falls back on an older call. */
#pragma once

#include <stdint.h>

#include "proto/err.h"

/* The capabilities that change it. */
uint64_t profile_caps(void);

/* Writes the program, in the kernel's form (seccomp(2)), to fd. Allocates, so for a worker. -errno with *e.
 */
int profile_build(uint64_t caps, int fd, struct err *e);
