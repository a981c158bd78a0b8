/* What tenon-net keeps of its rights: sockets of the internet families, its memory, and reading files that
 * everybody may (libslirp looks at /etc/resolv.conf anew when that changes). */
#pragma once

#include "proto/err.h"

/* Before anything of libslirp runs: an unprivileged user if started by root, few descriptors (rlimits), an
 * end with the parent. */
int confine_process(struct err *e);
/* After it: every other system call fails with EPERM (seccomp). */
int confine_calls(struct err *e);
