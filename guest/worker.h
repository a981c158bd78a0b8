/* Work that may block, in a forked process: the agent only waits for its word. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "guest/loop.h"
#include "proto/err.h"

#define WORKER_FDS 4  /* descriptors that a worker may hand over */
#define WORKER_KEEP 8 /* and that it may keep of the agent's */

struct worker {
	struct loop *loop;
	struct source source;
	struct timer deadline;
	int fd;    /* socket to the worker, -1: none runs */
	pid_t pid; /* 0 once reaped: the number may be another's */
	/* r: 0 or -errno with *e. fds: what the worker sent along, -1 where it sent nothing; the callee's to
	 * keep or close. All -1 if r is negative. */
	void (*done)(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS]);
	/* What worker_offer sent along. NULL: nothing is expected. */
	void (*offered)(struct worker *w, int fds[WORKER_FDS]);
	bool stands_alone;   /* needs nothing more of us: it may outlive this program in our process */
	struct worker *next; /* of those that run */
};

void worker_init(struct worker *w, struct loop *loop,
		 void (*done)(struct worker *, int, const struct err *, int[WORKER_FDS]));

/* Runs work(arg, fds, e) in a child that holds no descriptor of ours but 0–2 and the n of keep, which may be
 * -1, and that dies with us. fds starts at -1; what work puts there is handed over, each in its place, if it
 * returns 0. done is called once: with its result, or -ETIMEDOUT after ms (0: never), when it is killed, or
 * -ECHILD if it died, or -EMFILE if there was no room for its descriptors. Returns -errno if it could not be
 * started; done is then not called.
 */
int worker_start(struct worker *w, int (*work)(void *arg, int fds[WORKER_FDS], struct err *e), void *arg,
		 const int *keep, int n, unsigned ms);

/* Within work: hands descriptors over and goes on. They may get lost: an answer needs a deadline. */
void worker_offer(const int fds[WORKER_FDS]);

/* Kills it, if one runs; done is not called. */
void worker_stop(struct worker *w);

/* signo to every one that runs. */
void workers_signal(int signo);

/* Whether all that run stand alone. */
bool workers_stand_alone(void);
/* The pids of those that run, at most n. Returns how many. */
size_t workers_list(uint32_t *pids, size_t n);

/* The reaper's: true if pid was a worker that still runs. */
bool worker_reaped(pid_t pid);

static inline bool worker_running(const struct worker *w)
{
	return w->fd >= 0;
}
