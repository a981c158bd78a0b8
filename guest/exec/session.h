/* Signalling the processes of a session, which is what an execution is where it has no cgroup. */
#pragma once

#include <sys/types.h>

/* signo to every process whose session is sid, found in /proc. Returns 0, -ESRCH if there was none, or
 * -errno. A process that leaves by setsid is not found: only a cgroup holds it. */
int session_signal(pid_t sid, int signo);
