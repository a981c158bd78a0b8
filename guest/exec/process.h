/* A process of the box by its number, as a list of processes shows it: any, not only what an execution
 * started. */
#pragma once

#include "guest/exec/exec.h"

/* Signals it. It has to be below the executions' cgroup; where there are none, in the session of an
 * execution: one that has left it by setsid is not found. So the agent, its workers and the kernel's threads
 * are never hit. started: its start time (PROCSTAT_STARTED), or 0. A number that has passed to another
 * process meanwhile is not hit either. NOT_FOUND, or INVALID_ARGUMENT with *f. */
int process_signal(struct execs *x, uint32_t pid, uint64_t started, uint32_t signo, struct fault *f);
