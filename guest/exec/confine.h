/* What a process is given beyond its arguments and pipes (EXEC.md): the request and its preset as plain
 * numbers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "guest/exec/cgroup.h"
#include "guest/fault.h"

/* What the agent has itself, and so what a child has before it is given anything. */
struct confine_own {
	uint64_t known; /* capabilities of this kernel: bit n is number n */
	uint64_t bounding, permitted, effective;
	int nice, oom_score_adj;
	bool root; /* else it leaves as it is what nobody asked to change */
	bool bare; /* every id 0, no groups besides, no capability handed down: as "" has it */
};

enum confine_filter { CONFINE_NO_FILTER, CONFINE_DEFAULT_FILTER, CONFINE_RULES };

struct confine {
	struct rlimit rlimits[RLIM_NLIMITS];
	uint32_t limited;   /* bit n: rlimits[n] is to be set */
	uint64_t caps;      /* the bounding set it keeps */
	uint64_t drop_caps; /* what the agent's has beside them */
	int nice, oom_score_adj;
	bool set_nice, set_oom; /* they are not the agent's own */
	bool no_new_privs;
	enum confine_filter filter;
	struct cgroup_limits resources;
};

/* Reads what the agent has; /proc should be there. */
void confine_look(struct confine_own *own);

/* Checks that part of a request and puts it together with its preset. nofile: what each child starts from.
 * Returns 0, or -errno with *f. Pure. */
int confine_take(struct confine *c, const Tenon__Exec *req, const struct confine_own *own,
		 const struct rlimit *nofile, struct fault *f);
