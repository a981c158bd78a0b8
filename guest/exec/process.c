#include "guest/exec/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/proc.h"
#include "guest/scan.h"
#include "proto/cleanup.h"

static bool is_of_the_box(struct execs *x, int proc, uint32_t pid, const struct proc_stat *stat)
{
	char name[32], text[1024];
	if (!cgroup_present(&x->cgroups))
		return execs_have_session(x, stat->session);
	snprintf(name, sizeof name, "%u/cgroup", pid);
	return scan_file(proc, name, text, sizeof text) >= 0 && cgroup_parse(text) >= 0;
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
	struct proc_stat stat;
	bool it = fd >= 0 && proc >= 0 && proc_read_stat(proc, (pid_t)pid, &stat) == 0 &&
		  is_of_the_box(x, proc, pid, &stat) && (started == 0 || stat.started_ticks == started);
	if (!it || syscall(SYS_pidfd_send_signal, fd, (int)signo, NULL, 0) < 0)
		return fault_code(f, TENON__CODE__CODE_NOT_FOUND, "no such process of the box");
	return 0;
}
