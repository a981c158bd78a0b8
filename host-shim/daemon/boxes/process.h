/* Child processes, each behind a pidfd: tenon-vmm, which outlives us and is found again, and helpers, which
 * do not.
 *
 * Not uv_spawn, for three things it cannot do: a child that waits until we have committed who it is (so that
 * no crash leaves one that nobody knows), one that dies with us, and one that an earlier tenond made. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "proto/err.h"

/* Which process, for ever: pids come again, the time of their birth does not, and the host's boot id tells
 * its clocks apart. pid 0: none. */
struct process_id {
	pid_t pid;
	uint64_t ticks; /* field 22 of /proc/pid/stat */
	char boot[37];  /* /proc/sys/kernel/random/boot_id */
};

#define PROCESS_OUTPUT_MAX 65536 /* what a pipe holds; a child that says more is stopped by its deadline */

struct process;

/* status: as from waitpid(2), or -1 for an adopted one. output: what it wrote to stdout and stderr,
 * NUL-terminated,
 * "" without `capture`. The owner destroys the process, also inside this call. */
typedef void (*process_exited_fn)(void *arg, int status, const char *output);

struct process_config {
	uv_loop_t *loop;
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH if it has no slash */
	bool detached;           /* a session of its own; outlives us. Else it is killed when we die */
	bool gated;              /* does nothing before process_release, and ends if we die first */
	bool capture;
	int inherit;          /* an fd it keeps under the same number; -1: none */
	int input, output;    /* its stdin and stdout, the caller's; 0: /dev/null, or what capture takes */
	unsigned deadline_ms; /* then SIGKILL; 0: none */
	void *arg;
	process_exited_fn exited;
};
int process_spawn(struct process **out, const struct process_config *c, struct err *e);
/* Watches one that is not ours. -ESRCH if it is gone. */
int process_adopt(struct process **out, uv_loop_t *loop, const struct process_id *id,
		  process_exited_fn exited, void *arg, struct err *e);
void process_release(struct process *p);
void process_kill(struct process *p, int signo);
const struct process_id *process_identity(const struct process *p);
/* Stops watching; a child without `detached` that still runs is killed. NULL is fine. */
void process_destroy(struct process *p);

/* Reads who runs as pid now. -ESRCH. */
int process_identify(struct process_id *out, pid_t pid);
