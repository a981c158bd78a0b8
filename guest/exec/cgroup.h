/* The cgroups that executions are born into: made beforehand, given out, taken back when empty. Absent (a
 * plain host, a kernel without cgroup2) every call is harmless and executions have none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/err.h"

#define CGROUP_POOL 1024

enum cgroup_use {
	CGROUP_IDLE,
	CGROUP_BUSY,
	CGROUP_LEFT, /* given back with processes still in it */
};

struct cgroup_entry {
	int dir;            /* of the cgroup; -1: not made */
	uint64_t oom_kills; /* as last looked at */
	enum cgroup_use use;
};

struct cgroup_pool {
	int root; /* directory of the pool, -1: no cgroups here */
	struct cgroup_entry entries[CGROUP_POOL];
};

/* path: an empty cgroup2 directory of our own. Makes the first few cgroups; failure leaves the pool without
 * any. */
int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e);
void cgroup_pool_init_none(struct cgroup_pool *p);

/* Goes on with a pool that an earlier program made; takes root, its directory. Its members are named one by
 * one: what they are used for, and OOM kills as last looked at. */
void cgroup_pool_adopt(struct cgroup_pool *p, int root);
int cgroup_adopt(struct cgroup_pool *p, int cg, enum cgroup_use use, uint64_t oom_kills);

/* An empty cgroup, made if need be; -1 if there is none to be had. */
int cgroup_take(struct cgroup_pool *p);
void cgroup_give_back(struct cgroup_pool *p, int cg);

int cgroup_dir(const struct cgroup_pool *p, int cg); /* for CLONE_INTO_CGROUP; -1 for cg -1 */

/* SIGKILL to all in it by cgroup.kill, which nothing escapes; another signal to each process listed. -errno;
 * -ESRCH for cg -1. */
int cgroup_signal(const struct cgroup_pool *p, int cg, int signo);

/* Whether memory.events has counted an OOM kill since the last look; false where there is no such counter. */
bool cgroup_oom_killed(struct cgroup_pool *p, int cg);
