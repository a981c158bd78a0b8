#include "guest/exec/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/exec/procstat.h"
#include "proto/cleanup.h"

static int session_of(int proc, const char *pid)
{
	char text[512];
	uint64_t sid;
	return procstat_read(proc, pid, "stat", text, sizeof text) == 0 &&
			       procstat_field(text, PROCSTAT_SESSION, &sid) == 0
		       ? (int)sid
		       : -1;
}

int session_signal(pid_t sid, int signo)
{
	/* Not opendir, which allocates. */
	_cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return -errno;
	int found = 0;
	char entries[4096] __attribute__((aligned(8)));
	long n;
	while ((n = syscall(SYS_getdents64, proc, entries, sizeof entries)) > 0)
		for (long at = 0; at < n;) {
			const struct dirent *d = (const struct dirent *)(entries + at);
			at += d->d_reclen;
			bool is_pid = d->d_name[0] >= '1' && d->d_name[0] <= '9';
			if (is_pid && session_of(proc, d->d_name) == sid)
				found += kill(atoi(d->d_name), signo) == 0;
		}
	return found > 0 ? 0 : -ESRCH;
}
