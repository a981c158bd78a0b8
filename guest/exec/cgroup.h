/* The cgroups that executions are born into: made beforehand, given out, taken back when empty, and
 * made anew when there is time for it. Absent (a plain host, a kernel without cgroup2) every call is harmless
 * and executions have none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/exec/usage.h"
#include "guest/fault.h"

#define CGROUP_POOL 1024
#define CGROUP_BOX "/box" /* the pool's directory, in the hierarchy of an agent with a machine of its own */

enum cgroup_use {
	CGROUP_IDLE,
	CGROUP_BUSY,
	CGROUP_LEFT, /* given back with processes still in it */
};

/* In tenon.proto's terms; 0: none. */
struct cgroup_limits {
	uint64_t memory_max, memory_high;
	uint32_t pids_max, cpu_quota_us, cpu_period_us, cpu_weight;
};

struct cgroup_entry {
	bool made;
	int dir;             /* of the cgroup, if it is made */
	uint64_t oom_before; /* OOM kills counted before it was given out */
	uint64_t all_before; /* those of the whole pool by then, as last read; or CGROUP_UNREAD */
	uint64_t oom_told;   /* those that cgroup_oom_news has told */
	bool limited;        /* not to be used again, but removed */
	bool used;           /* it has been an execution's */
	enum cgroup_use use;
};

#define CGROUP_UNREAD UINT64_MAX

struct cgroup_pool {
	int root;           /* directory of the pool, -1: no cgroups here */
	int events;         /* its memory.events, -1: not there */
	uint64_t oom_kills; /* of that, as last read */
	struct cgroup_entry entries[CGROUP_POOL];
	struct usage before[CGROUP_POOL]; /* what earlier users have used of each; untouched until there are
					     some */
};

/* path: an empty cgroup2 directory of our own. Makes the first few cgroups; failure leaves the pool without
 * any. */
int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e);
/* Its memory has to be zero: it is not touched, so that what is not used costs nothing. */
void cgroup_pool_init_none(struct cgroup_pool *p);

/* Goes on with a pool that an earlier program made; takes root, its directory. Its members are named one by
 * one: what they are used for, OOM kills counted before, and whether they have limits. */
void cgroup_pool_adopt(struct cgroup_pool *p, int root);
int cgroup_adopt(struct cgroup_pool *p, int cg, enum cgroup_use use, uint64_t oom_before, bool limited);

/* An empty cgroup with those limits in *cg, made if need be; -1 without limits if there is none to be had.
 * Limits get a cgroup that nobody has used: lowering memory.max below what a former user has left cached
 * would keep the agent waiting while the kernel reclaims it. -EOPNOTSUPP with *f naming the field if there is
 * no cgroup or no controller for a limit, -errno if the kernel refuses it. */
int cgroup_take(struct cgroup_pool *p, const struct cgroup_limits *limits, int *cg, struct fault *f);
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

/* OOM kills that memory.events has counted since it was given out; 0 where there is no such counter. */
uint64_t cgroup_oom_kills(struct cgroup_pool *p, int cg);
/* A cgroup with OOM kills that were not told yet, and how many it has had; -1: no more. */
int cgroup_oom_news(struct cgroup_pool *p, uint64_t *kills);

/* ---- all of them together ---- */

static inline bool cgroup_present(const struct cgroup_pool *p)
{
	return p->root >= 0;
}

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
