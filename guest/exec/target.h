/* Whom a signal to an execution reaches: its process, the job in front on its terminal, its group, its
 * session, its cgroup. What was reaped is not hit, whoever has its number now. */
#pragma once

#include "guest/exec/cgroup.h"
#include "guest/exec/table.h"
#include "proto/tenon.pb-c.h"

/* signo to a target of TARGET_… of the row. 0, -ESRCH if nobody is left there, or -errno. */
int target_signal(const struct exec_table *t, const struct cgroup_pool *p, const struct exec_row *r,
		  int signo, Tenon__Target target);

/* To everything: in its cgroup; without one, in its session. */
static inline int target_signal_all(const struct exec_table *t, const struct cgroup_pool *p,
				    const struct exec_row *r, int signo)
{
	return target_signal(t, p, r, signo, TENON__TARGET__TARGET_ALL);
}

/* Whether the number of a reaped session leader has come back as the pid of another execution. */
bool target_session_is_anothers(const struct exec_table *t, const struct exec_row *r);
