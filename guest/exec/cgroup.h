/* The cgroups that executions are born into: made beforehand, given out, taken back when empty. Absent (a
 * plain host, a kernel without cgroup2) every call is harmless and executions have none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/fault.h"

#define CGROUP_POOL 1024

/* In tenon.proto's terms; 0: none. */
struct cgroup_limits {
	uint64_t memory_max, memory_high;
	uint32_t pids_max, cpu_quota_us, cpu_period_us, cpu_weight;
};

struct cgroup_entry {
	int dir;                                            /* of the cgroup; -1: not made */
	uint64_t oom_kills;                                 /* as last looked at */
	bool limited;                                       /* not to be used again, but removed */
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

/* An empty cgroup with those limits in *cg, made if need be; -1 without limits if there is none to be had.
 * Limits get a cgroup that nobody has used: lowering memory.max below what a former user has left cached
 * would keep the agent waiting while the kernel reclaims it. -EOPNOTSUPP with *f naming the field if there is
 * no cgroup or no controller for a limit, -errno if the kernel refuses it. */
int cgroup_take(struct cgroup_pool *p, const struct cgroup_limits *limits, int *cg, struct fault *f);
void cgroup_give_back(struct cgroup_pool *p, int cg);

int cgroup_dir(const struct cgroup_pool *p, int cg); /* for CLONE_INTO_CGROUP; -1 for cg -1 */

/* SIGKILL to all in it by cgroup.kill, which nothing escapes; another signal to each process listed. -errno;
 * -ESRCH for cg -1. */
int cgroup_signal(const struct cgroup_pool *p, int cg, int signo);

/* Whether memory.events has counted an OOM kill since the last look; false where there is no such counter. */
bool cgroup_oom_killed(struct cgroup_pool *p, int cg);
