#include "guest/exec/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "guest/proc.h"
#include "proto/cleanup.h"

int session_signal(pid_t sid, int signo)
{
	struct proc_walk walk;
	struct proc_stat stat;
	_cleanup_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return -errno;
	int found = 0, r = proc_walk_begin(&walk, proc);
	if (r < 0)
		return r;
	for (pid_t pid; (pid = proc_walk_next(&walk)) > 0;)
		if (proc_read_stat(proc, pid, &stat) == 0 && stat.session == sid)
			found += kill(pid, signo) == 0;
	proc_walk_end(&walk);
	return found > 0 ? 0 : -ESRCH;
}
