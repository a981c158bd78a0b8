/* The cgroups that executions are born into: made beforehand, given out, taken back when empty. Absent (a
 * plain host, a kernel without cgroup2) every call is harmless and executions have none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/err.h"

#define CGROUP_POOL 1024

struct cgroup_entry {
	int dir;                                            /* of the cgroup; -1: not made */
	uint64_t oom_before;                                /* OOM kills counted before it was given out */
	uint64_t oom_told;                                  /* those that cgroup_oom_news has told */
	enum { CGROUP_IDLE, CGROUP_BUSY, CGROUP_LEFT } use; /* LEFT: given back with processes still in it */
};

struct cgroup_pool {
	int root;         /* directory of the pool, -1: no cgroups here */
	const char *path; /* its path */
	struct cgroup_entry entries[CGROUP_POOL];
};

/* path: an empty cgroup2 directory of our own below /sys/fs/cgroup, a literal. Makes the first few cgroups;
 * failure leaves the pool without any. */
int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e);
void cgroup_pool_init_none(struct cgroup_pool *p);

/* An empty cgroup, made if need be; -1 if there is none to be had. */
int cgroup_take(struct cgroup_pool *p);
void cgroup_give_back(struct cgroup_pool *p, int cg);

int cgroup_dir(const struct cgroup_pool *p, int cg); /* for CLONE_INTO_CGROUP; -1 for cg -1 */

/* SIGKILL to all in it by cgroup.kill, which nothing escapes; another signal to each process listed. -errno;
 * -ESRCH for cg -1. */
int cgroup_signal(const struct cgroup_pool *p, int cg, int signo);

/* OOM kills that memory.events has counted since it was given out; 0 where there is no such counter. */
uint64_t cgroup_oom_kills(const struct cgroup_pool *p, int cg);
/* A cgroup with OOM kills that were not told yet, and how many it has had; -1: no more. */
int cgroup_oom_news(struct cgroup_pool *p, uint64_t *kills);

/* ---- all of them together ---- */

static inline bool cgroup_present(const struct cgroup_pool *p)
{
	return p->root >= 0;
}

/* Whether /proc/PID/cgroup, as read, says that the process is in one of them. */
bool cgroup_holds(const struct cgroup_pool *p, const char *text);

/* Freezes or thaws all; cgroup.events tells when it has come to pass. 0 or -errno. */
int cgroup_freeze(const struct cgroup_pool *p, bool freeze);

/* A file of the pool's own directory that announces changes by EPOLLPRI. A descriptor or -errno. */
int cgroup_open_events(const struct cgroup_pool *p, const char *name);
/* Whether "frozen 1" is in what cgroup_open_events opened; reading it also takes note of the change. */
bool cgroup_is_frozen(int events);
/* OOM kills of all, of memory.events; likewise. */
uint64_t cgroup_oom_total(int events);

/* SIGKILL to all, frozen or not: nothing escapes. */
void cgroup_kill_all(const struct cgroup_pool *p);
