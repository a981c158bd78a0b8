#include "guest/exec/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

int session_parse_stat(const char *line, int *sid)
{
	const char *p = strrchr(line, ')'); /* the name may hold anything, ')' too */
	if (!p || p[1] != ' ')
		return -EINVAL;
	p += 2;
	for (int field = 0; field < 3; field++) { /* state, ppid, pgrp */
		p = strchr(p, ' ');
		if (!p)
			return -EINVAL;
		p++;
	}
	char *end;
	long v = strtol(p, &end, 10);
	if (end == p)
		return -EINVAL;
	*sid = (int)v;
	return 0;
}

static int session_of(int proc, const char *pid)
{
	char path[32], text[512];
	snprintf(path, sizeof path, "%.10s/stat", pid);
	_cleanup_close_ int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	int sid;
	return session_parse_stat(text, &sid) == 0 ? sid : -1;
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
