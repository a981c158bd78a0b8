/* Work that may block, in a forked process with a deadline: the agent only waits for its word. */
#pragma once

#include <stdbool.h>

#include "guest/loop.h"
#include "proto/err.h"

struct worker {
	struct loop *loop;
	struct source source;
	struct timer deadline;
	int fd;    /* socket to the worker, -1: none runs */
	pid_t pid; /* 0 once reaped: the number may be another's */
	/* r: 0 or -errno with *e; fd: what the worker sent along, or -1; the callee's to keep. */
	void (*done)(struct worker *w, int r, const struct err *e, int fd);
};

void worker_init(struct worker *w, struct loop *loop,
		 void (*done)(struct worker *, int, const struct err *, int));

/* Runs work(arg, send_fd, e) in a child that holds no descriptor of ours but 0–2 and keep (or -1). *send_fd
 * may be set to a descriptor to hand over. done is called once: with its result, or -ETIMEDOUT after ms (then
 * it was killed), or -ECHILD if it died. Returns -errno if it could not be started; done is then not called.
 */
int worker_start(struct worker *w, int (*work)(void *arg, int *send_fd, struct err *e), void *arg, int keep,
		 unsigned ms);

/* The reaper's: true if pid was this worker. */
bool worker_reaped(struct worker *w, pid_t pid);

static inline bool worker_running(const struct worker *w)
{
	return w->fd >= 0;
}
