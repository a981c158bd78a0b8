/* Which of the machine's processes are the box's. Each execution begins in a session of its own, and no
 * process can join another's session: so what is in the agent's is the agent, its workers and, in a machine
 * of its own, the kernel's threads. On a plain host the box is what descends from the agent, which adopts its
 * orphans. */
#pragma once

#include "guest/bulk/bulk.h"
#include "guest/metrics/rows.h"
#include "guest/proc.h"

struct census_entry {
	pid_t pid, ppid, session;
	bool ours, runs; /* the box's; on a processor or waiting for one */
};

struct census {
	pid_t agent;
	struct proc_stat agent_stat;
	struct census_entry *entries; /* all processes, in the order of their pids */
	int n;
	uint32_t processes, running, workers; /* the box's; those of them that run; the agent's */
};

/* 0; -E2BIG if there are more than a million: then it knows of as many. Or -errno. census_drop gives it back
 * in any case. */
int census_take(struct census *c, const struct bulk_context *ctx);
void census_drop(struct census *c);

/* Where there are no cgroups: the execution whose session this process or its nearest ancestor is in, or
 * NULL. */
const struct row_view *census_execution(const struct census *c, pid_t pid, const struct row_view *views,
					int n);
