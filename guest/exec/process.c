#include "guest/exec/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/exec/procstat.h"
#include "proto/cleanup.h"

static bool is_of_the_box(struct execs *x, int proc, const char *pid, const char *stat)
{
	char text[1024];
	if (cgroup_present(&x->cgroups))
		return procstat_read(proc, pid, "cgroup", text, sizeof text) == 0 &&
		       cgroup_holds(&x->cgroups, text);
	uint64_t session;
	return procstat_field(stat, PROCSTAT_SESSION, &session) == 0 && execs_have_session(x, (pid_t)session);
}

int process_signal(struct execs *x, uint32_t pid, uint64_t started, uint32_t signo, struct fault *f)
{
	if (pid < 1 || pid > INT_MAX)
		return fault_invalid(f, "kill_process.pid", "%u is no process", pid);
	if (signo < 1 || signo > 64)
		return fault_invalid(f, "kill_process.signo", "%u is no signal", signo);

	/* The descriptor first: if it can still be signalled at the end, then all that was read in between
	 * was about the same process. */
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	_cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[16], stat[512];
	uint64_t began;
	snprintf(name, sizeof name, "%u", pid);
	bool it = fd >= 0 && proc >= 0 && procstat_read(proc, name, "stat", stat, sizeof stat) == 0 &&
		  is_of_the_box(x, proc, name, stat) && procstat_field(stat, PROCSTAT_STARTED, &began) == 0 &&
		  (started == 0 || began == started);
	if (!it || syscall(SYS_pidfd_send_signal, fd, (int)signo, NULL, 0) < 0)
		return fault_code(f, TENON__CODE__CODE_NOT_FOUND, "no such process of the box");
	return 0;
}
