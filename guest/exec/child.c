#include "guest/exec/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "guest/exec/rawcall.h"

/* Everything here runs beside the agent in its memory: raw system calls only, no libc that writes, no
 * sanitizer that keeps books per thread. */
#define BESIDE __attribute__((no_sanitize("address", "undefined"), no_stack_protector))

#define ERROR_FD 3 /* where the error pipe goes, so that all above can be closed */

int BESIDE child_path_next(const char **search, const char *name, char path[CHILD_PATH_MAX])
{
	const char *dir = *search;
	size_t at = 0;
	while (dir[at] && dir[at] != ':') {
		if (at == CHILD_PATH_MAX - 2)
			break;
		path[at] = dir[at];
		at++;
	}
	const char *end = dir + at;
	while (*end && *end != ':')
		end++;
	*search = *end ? end + 1 : NULL;
	if (end != dir + at)
		return -ENAMETOOLONG;
	if (at > 0)
		path[at++] = '/';
	while (*name) {
		if (at == CHILD_PATH_MAX - 1)
			return -ENAMETOOLONG;
		path[at++] = *name++;
	}
	path[at] = '\0';
	return 0;
}

static _Noreturn void BESIDE fail(struct child *c, long r)
{
	c->errnum = (int)-r;
	for (;;)
		raw_call(SYS_exit_group, 127, 0, 0, 0);
}

/* The present step had result r; the next one is `next`. */
static void BESIDE advance(struct child *c, enum child_step next, long r)
{
	if (r < 0)
		fail(c, r);
	c->step = next;
}

static long BESIDE take_stdio(struct child *c)
{
	for (int i = 0; i < 3; i++) {
		long r = raw_call(SYS_dup2, c->stdio[i], i, 0, 0);
		if (r < 0)
			return r;
	}
	if (c->error_fd != ERROR_FD) {
		long r = raw_call(SYS_dup3, c->error_fd, ERROR_FD, O_CLOEXEC, 0);
		if (r < 0)
			return r;
	}
	/* Now, not by close-on-exec: a child stuck in a later step must not hold the pipes of others open. */
	return raw_call(SYS_close_range, ERROR_FD + 1, ~0U, 0, 0);
}

static long BESIDE try_execve(struct child *c, const char *path)
{
	c->execving = 1;
	long r = raw_call(SYS_execve, (long)path, (long)c->argv, (long)c->envp, 0);
	c->execving = 0;
	return r;
}

/* execve of each candidate until one is taken. EACCES is remembered, as execvp does: it says more than
 * ENOENT. */
static long BESIDE exec_search(struct child *c)
{
	char path[CHILD_PATH_MAX];
	long result = -ENOENT;
	for (const char *rest = c->search; rest;) {
		long r = child_path_next(&rest, c->argv[0], path);
		if (r == 0)
			r = try_execve(c, path);
		if (r == -EACCES)
			result = r;
		else if (r != -ENOENT && r != -ENOTDIR && r != -ENAMETOOLONG)
			return r;
	}
	return result;
}

void BESIDE child_main(void *arg)
{
	struct child *c = arg;
	const uint64_t no_signals = 0;

	/* A session of its own: no terminal, and a group to signal. Cannot fail in a fresh child. */
	raw_call(SYS_setsid, 0, 0, 0, 0);
	advance(c, CHILD_SETNS, 0);
	advance(c, CHILD_STDIO, c->ns_fd < 0 ? 0 : raw_call(SYS_setns, c->ns_fd, CLONE_NEWNS, 0, 0));
	advance(c, CHILD_TTY, take_stdio(c));
	advance(c, CHILD_RLIMIT, c->tty ? raw_call(SYS_ioctl, 0, TIOCSCTTY, 0, 0) : 0);
	advance(c, CHILD_CHDIR, raw_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&c->nofile, 0));
	advance(c, CHILD_EXECVE, raw_call(SYS_chdir, (long)c->cwd, 0, 0, 0));
	/* The agent blocks every signal and handles none, so the mask is all there is to restore, SIGPIPE
	 * included. */
	raw_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&no_signals, 0, sizeof no_signals);
	fail(c, c->search ? exec_search(c) : try_execve(c, c->argv[0]));
}

const char *child_step_name(enum child_step step)
{
	static const char *const names[] = {"spawn", "setns", "stdio", "tty", "rlimit", "chdir", "execve"};
	return names[step];
}
