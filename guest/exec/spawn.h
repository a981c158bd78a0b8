/* Starting a child without waiting for it: its arguments, its pipes, the clone, and what
 * became of it. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "guest/exec/child.h"
#include "guest/exec/filter.h"
#include "guest/fault.h"
#include "guest/memory.h"

/* Per row: [struct child, arrays, strings → … ← stack], of memory_reserve_shared. In use from clone until the
 * error pipe ends. */
#define SPAWN_STACK (32 * 1024)
#define SPAWN_AREA (1536 * 1024 + SPAWN_STACK)

/* What every child of this box gets. */
struct spawn_base {
	char *const *env; /* the box's, n_env entries */
	size_t n_env;
	int ns_fd;   /* -1: the agent's own mount namespace */
	int pts_fd;  /* the box's /dev/pts, or -1: the agent's own */
	int null_fd; /* /dev/null to read from: all children without stdin have this one */
	struct rlimit nofile;
	struct confine_own own;
};

/* The agent's ends of a child's pipes, non-blocking and close-on-exec. With a terminal, in and out are both
 * its master, and there is no err. */
struct spawn_pipes {
	int in; /* -1 without stdin */
	int out, err;
	int error; /* ends when the child is past execve or gone */
};

/* Copies the request into `area` (SPAWN_AREA bytes, page-aligned) and checks it. Returns 0 with *child, or
 * fills *f. */
int spawn_prepare(void *area, const Tenon__Exec *req, const struct spawn_base *base, struct child **child,
		  struct fault *f);

/* Clones the child prepared from the same req and base. cgroup_fd: the directory of the cgroup to be born in,
 * or -1. Returns the pid with *pipes filled, which are the caller's to close, or fills *f. */
pid_t spawn_start(void *area, struct child *child, const Tenon__Exec *req, const struct spawn_base *base,
		  int cgroup_fd, struct spawn_pipes *pipes, struct fault *f);

/* The filter that a child with c->filter waits for: a copy of it (r is 0), or why there is none. Before the
 * clone or after it. */
void spawn_give_filter(struct child *c, const struct filter *filter, int r, const struct err *e);

enum spawn_outcome { SPAWN_STARTED, SPAWN_FAILED };

/* Once the error pipe has ended, or the child was reaped: whether execve succeeded, else why not (EXEC_FAILED
 * in *f). */
enum spawn_outcome spawn_outcome(const struct child *child, struct fault *f);

/* The area of a prepared child is not needed any more; a warm one will be used again soon. */
void spawn_release(void *area, bool warm);
