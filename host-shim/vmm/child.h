/* Programs that tenon-vmm starts and that live no longer than it does. */
#pragma once

#include <sys/types.h>

#include "proto/err.h"

/* Starts argv[0], found in PATH if it has no slash, with the descriptors of `inherited`, and with `output` as
 * stdout and stderr. The kernel sends it SIGKILL when this process (this thread) dies. *pidfd is readable
 * once it has ended. -errno if it cannot be started, and then nothing runs. */
int child_spawn(char *const argv[], const int *inherited, unsigned n, int output, pid_t *pid, int *pidfd,
		struct err *e);
