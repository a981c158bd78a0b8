/* The cgroups that executions are born into: made beforehand, given out, taken back when empty, and
 * made anew when there is time for it. Absent (a plain host, a kernel without cgroup2) every call is harmless
 * and executions have none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/exec/usage.h"
#include "proto/err.h"

#define CGROUP_POOL 1024
#define CGROUP_BOX "/box" /* the pool's directory, in the hierarchy of an agent with a machine of its own */

struct cgroup_entry {
	int dir;                                            /* of the cgroup; -1: not made */
	uint64_t oom_kills;                                 /* as last looked at */
	bool used;                                          /* it has been an execution's */
	struct usage base;                                  /* what those before have used of it */
	enum { CGROUP_IDLE, CGROUP_BUSY, CGROUP_LEFT } use; /* LEFT: given back with processes still in it */
};

struct cgroup_pool {
	int root; /* directory of the pool, -1: no cgroups here */
	struct cgroup_entry entries[CGROUP_POOL];
};

/* path: an empty cgroup2 directory of our own. Makes the first few cgroups; failure leaves the pool without
 * any. */
int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e);
void cgroup_pool_init_none(struct cgroup_pool *p);

/* An empty cgroup, made if need be; -1 if there is none to be had. */
int cgroup_take(struct cgroup_pool *p);
void cgroup_give_back(struct cgroup_pool *p, int cg);

/* Makes anew one that was used and is free again, so that its next user's peak of memory is his own. False if
 * there is none. It takes as long as starting a process does. */
bool cgroup_renew(struct cgroup_pool *p);

int cgroup_dir(const struct cgroup_pool *p, int cg); /* for CLONE_INTO_CGROUP; -1 for cg -1 */

/* The pool's directory's entry for cg, anew and only to look below. -1 if there is none. */
int cgroup_open(const struct cgroup_pool *p, int cg);

/* The one that a process is in, itself or somewhere below, by its /proc/PID/cgroup; -1: in none. Pure. */
int cgroup_parse(const char *text);

/* SIGKILL to all in it by cgroup.kill, which nothing escapes; another signal to each process listed. -errno;
 * -ESRCH for cg -1. */
int cgroup_signal(const struct cgroup_pool *p, int cg, int signo);

/* Whether memory.events has counted an OOM kill since the last look; false where there is no such counter. */
bool cgroup_oom_killed(struct cgroup_pool *p, int cg);
