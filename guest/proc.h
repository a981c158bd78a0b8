/* Processes as /proc shows them (proc(5)). What it shows of a process is of that process's choosing in part:
 * its name and its arguments may hold anything. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_STAT_SIZE 1024 /* enough for the fields below */

struct proc_stat {
	char state; /* 'R', 'S', 'Z' … */
	pid_t ppid, session;
	bool kernel; /* a thread of the kernel's */
	uint64_t user_ticks, system_ticks;
	uint64_t threads, rss_pages;
	uint64_t started_ticks; /* since boot: with the pid it names this process and no later one */
};

/* /proc/PID/stat, NUL-terminated. 0, or -EINVAL. Pure. */
int proc_parse_stat(const char *text, struct proc_stat *s);

/* The effective user in /proc/PID/status. Pure. */
uint32_t proc_parse_user(const char *text);

/* The stat of a process, below an open /proc. 0, or -errno: it may have gone. */
int proc_read_stat(int proc_fd, pid_t pid, struct proc_stat *s);

/* Over all processes; no memory is allocated. */
struct proc_walk {
	int fd;
	long n, at;
	char entries[4096] __attribute__((aligned(8)));
};
int proc_walk_begin(struct proc_walk *w, int proc_fd); /* 0, or -errno */
pid_t proc_walk_next(struct proc_walk *w);             /* 0 after the last one */
void proc_walk_end(struct proc_walk *w);
