#include "guest/exec/target.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "guest/exec/pty.h"
#include "guest/exec/session.h"

bool target_session_is_anothers(const struct exec_table *t, const struct exec_row *r)
{
	return r->pid == 0 && exec_table_find_pid(t, r->session) >= 0;
}

static int signal_session(const struct exec_table *t, const struct exec_row *r, int signo)
{
	return target_session_is_anothers(t, r) ? -ESRCH : session_signal(r->session, signo);
}

/* What runs in front on its terminal: as a rule the job of an interactive shell, not the shell. -ESRCH also
 * when the number has come back as a process of another session. */
static int signal_foreground(const struct exec_row *r, int signo)
{
	pid_t group = r->tty ? pty_foreground(r->out[0].fd) : 0;
	if (group <= 1)
		return -ESRCH;
	pid_t session = getsid(group);
	if (session >= 0 && session != r->session)
		return -ESRCH;
	return kill(-group, signo) < 0 ? -errno : 0;
}

int target_signal(const struct exec_table *t, const struct cgroup_pool *p, const struct exec_row *r,
		  int signo, Tenon__Target target)
{
	switch (target) {
	case TENON__TARGET__TARGET_PROCESS:
		if (r->pid == 0)
			return -ESRCH;
		if (signal_foreground(r, signo) == 0)
			return 0;
		return kill(r->pid, signo) < 0 ? -errno : 0;
	case TENON__TARGET__TARGET_GROUP:
		if (target_session_is_anothers(t, r))
			return -ESRCH;
		return kill(-r->session, signo) < 0 ? -errno : 0;
	case TENON__TARGET__TARGET_SESSION:
		return signal_session(t, r, signo);
	default:
		return r->cgroup >= 0 ? cgroup_signal(p, r->cgroup, signo) : signal_session(t, r, signo);
	}
}
