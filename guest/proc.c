#include "guest/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "guest/scan.h"
#include "proto/cleanup.h"

#define KERNEL_THREAD 0x00200000 /* PF_KTHREAD, linux/sched.h */

static pid_t scan_pid(const char **p)
{
	uint64_t v = scan_number(p);
	return v > INT32_MAX ? 0 : (pid_t)v;
}

int proc_parse_stat(const char *text, struct proc_stat *s)
{
	const char *p = strrchr(text, ')'), *state, *rss; /* the name may hold anything, ')' too */
	if (!p)
		return -EINVAL;
	p++;
	if (scan_word(&p, &state) != 1)
		return -EINVAL;
	*s = (struct proc_stat){.state = *state};
	s->ppid = scan_pid(&p);
	scan_skip(&p, 1); /* pgrp */
	s->session = scan_pid(&p);
	scan_skip(&p, 2); /* tty_nr, tpgid */
	s->kernel = scan_number(&p) & KERNEL_THREAD;
	scan_skip(&p, 4); /* faults */
	s->user_ticks = scan_number(&p);
	s->system_ticks = scan_number(&p);
	scan_skip(&p, 4); /* cutime, cstime, priority, nice */
	s->threads = scan_number(&p);
	scan_skip(&p, 1); /* itrealvalue */
	s->started_ticks = scan_number(&p);
	scan_skip(&p, 1); /* vsize */
	if (scan_word(&p, &rss) == 0)
		return -EINVAL;
	s->rss_pages = scan_number(&rss);
	return 0;
}

uint32_t proc_parse_user(const char *text)
{
	const char *p = scan_after(text, "Uid:");
	if (!p)
		return 0;
	scan_skip(&p, 1); /* the real one */
	return scan_u32(scan_number(&p));
}

int proc_read_stat(int proc_fd, pid_t pid, struct proc_stat *s)
{
	char path[32], text[PROC_STAT_SIZE];
	snprintf(path, sizeof path, "%d/stat", pid);
	long n = scan_file(proc_fd, path, text, sizeof text);
	return n < 0 ? (int)n : proc_parse_stat(text, s);
}

int proc_walk_begin(struct proc_walk *w, int proc_fd)
{
	w->n = w->at = 0;
	w->fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return w->fd < 0 ? -errno : 0;
}

/* Not readdir, which allocates. */
pid_t proc_walk_next(struct proc_walk *w)
{
	for (;;) {
		if (w->at >= w->n) {
			w->at = 0;
			w->n = syscall(SYS_getdents64, w->fd, w->entries, sizeof w->entries);
			if (w->n <= 0)
				return 0;
		}
		const struct dirent *d = (const struct dirent *)(w->entries + w->at);
		w->at += d->d_reclen;
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
			return atoi(d->d_name);
	}
}

void proc_walk_end(struct proc_walk *w)
{
	close_fd(&w->fd);
}
