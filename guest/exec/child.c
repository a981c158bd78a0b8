#include "guest/exec/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "guest/exec/rawcall.h"

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
	raw_call(SYS_exit_group, 127, 0, 0, 0);
	for (;;)
		__builtin_trap(); /* the filter that is in force by now may deny even the exit */
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

/* ---- who it is, and what it may ---- */

/* In the agent's own /proc. The score belongs to a memory, not to a process: whoever asks for another than
 * the agent's was given a copy of its own (spawn.c). */
static long BESIDE set_oom_score(const struct child *c)
{
	char text[8];
	int at = sizeof text, v = c->given.oom_score_adj;
	unsigned rest = v < 0 ? (unsigned)-v : (unsigned)v;
	do {
		text[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (v < 0)
		text[--at] = '-';
	long fd = raw_call(SYS_open, (long)"/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return fd;
	long r = raw_call(SYS_write, fd, (long)(text + at), (long)sizeof text - at, 0);
	raw_call(SYS_close, fd, 0, 0, 0);
	return r;
}

static long BESIDE set_rlimits(const struct child *c)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		long r = c->given.limited & 1U << i
				 ? raw_call(SYS_prlimit64, 0, i, (long)&c->given.rlimits[i], 0)
				 : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static long BESIDE become_user(struct child *c)
{
	if (!c->user_spec)
		return 0;
	long r = user_resolve(c->user_spec, c->user);
	if (r < 0)
		return r;
	if (c->home) {
		char *to = c->home + sizeof "HOME=" - 1;
		for (const char *from = c->user->home; (*to++ = *from++);)
			;
	}
	for (int fd = c->first_owned; c->user->uid != 0 && fd < 3; fd++) {
		r = raw_call(SYS_fchown, fd, c->user->uid, -1, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

static long BESIDE set_caps(uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct data[2] = {
		{.permitted = (uint32_t)permitted, .effective = (uint32_t)effective},
		{.permitted = (uint32_t)(permitted >> 32), .effective = (uint32_t)(effective >> 32)}};
	return raw_call(SYS_capset, (long)&head, (long)data, 0, 0);
}

/* While CAP_SETPCAP is still there. What root had by inheritance it would keep past the bounding set, and
 * what is inheritable may be ambient: nothing is. */
static long BESIDE bound_caps(const struct child *c)
{
	for (int n = 0; n < 64; n++) {
		long r = c->given.drop_caps >> n & 1 ? raw_prctl(PR_CAPBSET_DROP, n) : 0;
		if (r < 0)
			return r;
	}
	return c->own.bare ? 0 : set_caps(c->own.permitted, c->own.effective);
}

/* Whether it is who it is to become: what would change nothing is not asked of the kernel. */
static bool BESIDE stays(const struct child *c)
{
	const struct user *u = c->user;
	return !c->user_spec || (c->own.bare && u->uid == 0 && u->gid == 0 && u->n_groups == 0);
}

/* A filter without no_new_privs takes CAP_SYS_ADMIN, which a user has no longer: it is kept until execve,
 * which takes it away from whoever is not root. */
static bool BESIDE keeps_admin(const struct child *c)
{
	return c->filter && !c->given.no_new_privs && c->user_spec && c->user->uid != 0;
}

static long BESIDE set_uid(const struct child *c)
{
	if (stays(c))
		return 0;
	long r = keeps_admin(c) ? raw_prctl(PR_SET_KEEPCAPS, 1) : 0;
	if (r == 0)
		r = raw_call(SYS_setuid, c->user->uid, 0, 0, 0);
	if (r == 0 && keeps_admin(c))
		r = set_caps(UINT64_C(1) << CAP_SYS_ADMIN, UINT64_C(1) << CAP_SYS_ADMIN);
	return r;
}

static long BESIDE await_filter(const struct child *c)
{
	uint32_t gate;
	if (!c->filter)
		return 0;
	while ((gate = __atomic_load_n(&c->gate, __ATOMIC_ACQUIRE)) == CHILD_GATE_CLOSED)
		raw_call(SYS_futex, (long)&c->gate, FUTEX_WAIT, CHILD_GATE_CLOSED, 0);
	return gate == CHILD_GATE_OPEN ? 0 : -c->gate_error.errnum;
}

void child_open_gate(struct child *c, enum child_gate how)
{
	__atomic_store_n(&c->gate, how, __ATOMIC_RELEASE);
	syscall(SYS_futex, &c->gate, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static long BESIDE filter_calls(const struct child *c)
{
	long r = c->given.no_new_privs ? raw_prctl(PR_SET_NO_NEW_PRIVS, 1) : 0;
	if (r < 0 || !c->filter)
		return r;
	const struct sock_fprog program = {(unsigned short)c->filter_length, c->filter};
	return raw_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0);
}

void BESIDE child_main(void *arg)
{
	struct child *c = arg;
	const struct confine *g = &c->given;
	const struct user *u = c->user;
	const uint64_t no_signals = 0;

	/* A session of its own: no terminal, and a group to signal. Cannot fail in a fresh child. */
	raw_call(SYS_setsid, 0, 0, 0, 0);
	advance(c, CHILD_OOM, 0);
	advance(c, CHILD_NICE, g->set_oom ? set_oom_score(c) : 0);
	advance(c, CHILD_SETNS, g->set_nice ? raw_call(SYS_setpriority, PRIO_PROCESS, 0, g->nice, 0) : 0);
	advance(c, CHILD_STDIO, c->ns_fd < 0 ? 0 : raw_call(SYS_setns, c->ns_fd, CLONE_NEWNS, 0, 0));
	advance(c, CHILD_TTY, take_stdio(c));
	advance(c, CHILD_RLIMIT, c->tty ? raw_call(SYS_ioctl, 0, TIOCSCTTY, 0, 0) : 0);
	advance(c, CHILD_USER, set_rlimits(c));
	advance(c, CHILD_CHDIR, become_user(c));
	advance(c, CHILD_BOUNDING, raw_call(SYS_chdir, (long)c->cwd, 0, 0, 0));
	advance(c, CHILD_SETGROUPS, bound_caps(c));
	advance(c, CHILD_SETGID, stays(c) ? 0 : raw_call(SYS_setgroups, u->n_groups, (long)u->groups, 0, 0));
	advance(c, CHILD_SETUID, stays(c) ? 0 : raw_call(SYS_setgid, u->gid, 0, 0, 0));
	advance(c, CHILD_FILTER, set_uid(c));
	advance(c, CHILD_SECCOMP, await_filter(c));
	/* The agent blocks every signal and handles none, so the mask is all there is to restore, SIGPIPE
	 * included. */
	raw_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&no_signals, 0, sizeof no_signals);
	advance(c, CHILD_EXECVE, filter_calls(c));
	fail(c, c->search ? exec_search(c) : try_execve(c, c->argv[0]));
}

const char *child_step_name(enum child_step step)
{
	static const char *const names[] = {"spawn",  "oom",    "nice",    "setns",    "stdio",     "tty",
					    "rlimit", "user",   "chdir",   "bounding", "setgroups", "setgid",
					    "setuid", "filter", "seccomp", "execve"};
	return names[step];
}
