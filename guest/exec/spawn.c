#include "guest/exec/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "guest/exec/env.h"
#include "guest/exec/pty.h"
#include "guest/exec/rawcall.h"
#include "proto/cleanup.h"

#define ARGV_MAX 32768
#define STRING_MAX 131071 /* MAX_ARG_STRLEN of execve(2), less its NUL */
#define WARM_BYTES 24576  /* of a warm area, kept from one child to the next */

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static int check_string(const ProtobufCBinaryData *s, const char *field, struct fault *f)
{
	if (s->len > 0 && memchr(s->data, '\0', s->len))
		return fault_invalid(f, field, "holds a NUL byte");
	if (s->len <= STRING_MAX)
		return 0;
	*f = (struct fault){.code = TENON__CODE__CODE_EXEC_FAILED, .field = field};
	return err_set(&f->err, "execve", E2BIG, "a string of %zu bytes; Linux takes %d at most", s->len,
		       STRING_MAX);
}

static int check(const Tenon__Exec *req, struct fault *f)
{
	int r;
	if (req->n_argv == 0 || req->argv[0].len == 0)
		return fault_invalid(f, "exec.argv", "names no program");
	if (req->n_argv > ARGV_MAX)
		return fault_exhausted(f, "exec.argv", "%zu arguments; %d at most", req->n_argv, ARGV_MAX);
	if (req->n_env > ENV_MAX)
		return fault_exhausted(f, "exec.env", "%zu entries; %d at most", req->n_env, ENV_MAX);
	for (size_t i = 0; i < req->n_argv; i++)
		if ((r = check_string(&req->argv[i], "exec.argv", f)) < 0)
			return r;
	for (size_t i = 0; i < req->n_env; i++) {
		if ((r = check_string(&req->env[i], "exec.env", f)) < 0)
			return r;
		if (req->env[i].len == 0 || req->env[i].data[0] == '=')
			return fault_invalid(f, "exec.env", "entry %zu has no name", i);
	}
	if (req->cwd.len > 0 && req->cwd.data[0] != '/')
		return fault_invalid(f, "exec.cwd", "is not absolute");
	if (!user_spec_valid((const char *)req->user.data, req->user.len))
		return fault_invalid(f, "exec.user",
				     "is not NAME or UID, or one of these and :GROUP or :GID");
	if ((r = check_string(&req->user, "exec.user", f)) < 0)
		return r;
	return check_string(&req->cwd, "exec.cwd", f);
}

/* HOME for whoever has none: root's, or room for the one of a user that only the child will know. */
static void add_home(char **envp, char *room)
{
	static char root_home[] = "HOME=/root";
	if (room)
		memcpy(room, "HOME=", sizeof "HOME=");
	while (*envp)
		envp++;
	envp[0] = room ? room : root_home;
	envp[1] = NULL;
}

int spawn_prepare(void *area, const Tenon__Exec *req, const struct spawn_base *base, struct child **child,
		  struct fault *f)
{
	int r = check(req, f);
	if (r < 0)
		return r;

	struct bump b;
	bump_init(&b, area, SPAWN_AREA - SPAWN_STACK);
	struct child *c = bump_alloc(&b, sizeof *c);
	struct confine given;
	if ((r = confine_take(&given, req, &base->own, &base->nofile, f)) < 0)
		return r;
	char **argv = bump_alloc(&b, (req->n_argv + 1) * sizeof *argv);
	char **envp = env_merge(&b, base->env, base->n_env, req->env, req->n_env);
	char *cwd = req->cwd.len ? bump_string(&b, req->cwd.data, req->cwd.len) : bump_string(&b, "/", 1);
	char *spec = req->user.len || base->own.root ? bump_string(&b, req->user.data, req->user.len) : NULL;
	for (size_t i = 0; i < req->n_argv && !b.overflowed; i++)
		argv[i] = bump_string(&b, req->argv[i].data, req->argv[i].len);
	bool no_home = envp && !env_get(envp, "HOME");
	char *home = no_home && req->user.len ? bump_alloc(&b, sizeof "HOME=" - 1 + USER_HOME_MAX) : NULL;
	struct user *user = bump_alloc(&b, sizeof *user);
	struct sock_filter *filter = NULL;
	if (given.filter != CONFINE_NO_FILTER)
		filter = bump_alloc(&b, FILTER_INSTRUCTIONS_MAX * sizeof *filter);
	if (b.overflowed)
		return fault_exhausted(f, "exec", "arguments and environment do not fit %u bytes",
				       SPAWN_AREA - SPAWN_STACK);
	if (no_home)
		add_home(envp, home);
	argv[req->n_argv] = NULL;

	const char *path = env_get(envp, "PATH");
	*c = (struct child){
		.argv = argv,
		.envp = envp,
		.cwd = cwd,
		.search = strchr(argv[0], '/') ? NULL
			  : path               ? path
					       : default_path,
		.first_owned = req->with_stdin || req->tty ? 0 : 1, /* /dev/null is everybody's */
		.ns_fd = base->ns_fd,
		.given = given,
		.own = base->own,
		.user_spec = spec,
		.home = home,
		.user = user,
		.filter = filter,
		.size = b.used,
	};
	*child = c;
	return 0;
}

/* Only the agent's end is made non-blocking: the other is the program's, and programs expect pipes that
 * block. */
static int make_pipe(int ours[1], int theirs[1], bool we_write)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	ours[0] = fds[we_write];
	theirs[0] = fds[!we_write];
	return 0;
}

static int make_stdio(int ours[1], int theirs[1], bool we_write)
{
	int r = make_pipe(ours, theirs, we_write);
	return r == 0 && fcntl(ours[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : r;
}

static void close_pipes(struct spawn_pipes *p)
{
	close_fd(&p->in);
	close_fd(&p->out);
	close_fd(&p->err);
	close_fd(&p->error);
}
#define _cleanup_pipes_ __attribute__((cleanup(close_pipes)))

static int make_pipes(bool with_stdin, struct spawn_pipes *ours, struct spawn_pipes *theirs, struct fault *f)
{
	int r = with_stdin ? make_stdio(&ours->in, &theirs->in, true) : 0;
	if (r == 0)
		r = make_stdio(&ours->out, &theirs->out, false);
	if (r == 0)
		r = make_stdio(&ours->err, &theirs->err, false);
	if (r == 0)
		return 0;
	*f = (struct fault){.code = TENON__CODE__CODE_RESOURCE_EXHAUSTED};
	return err_sys(&f->err, "pipe", -r, "no descriptors for the command's pipes");
}

/* The slave is theirs.out alone: all three of the child's are that one. */
static int make_terminal(int pts_fd, const Tenon__Tty *tty, struct spawn_pipes *ours,
			 struct spawn_pipes *theirs, struct fault *f)
{
	struct winsize size;
	int r = pty_size(tty, "exec.tty.rows", "exec.tty.cols", &size, f);
	if (r < 0)
		return r;
	r = ours->out = pty_open(pts_fd, &size, &theirs->out);
	if (r >= 0 && (ours->in = fcntl(ours->out, F_DUPFD_CLOEXEC, 0)) < 0)
		r = -errno;
	if (r >= 0)
		return 0;
	*f = (struct fault){.code = TENON__CODE__CODE_RESOURCE_EXHAUSTED};
	return err_sys(&f->err, "pty", -r, "no terminal to be had");
}

static pid_t clone_child(void *area, struct child *child, int cgroup_fd)
{
	/* The OOM score is that of everybody who shares the memory: where it changes, the child has a copy,
	 * and only the area in common. */
	long vm = child->given.set_oom ? 0 : CLONE_VM;
	if (cgroup_fd < 0) /* not clone3: some sandboxes do not have it */
		return (pid_t)raw_clone(SYS_clone, vm | SIGCHLD, (long)area + SPAWN_AREA, child_main, child);
	struct clone_args args = {
		.flags = (uint64_t)vm | CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)area + SPAWN_AREA - SPAWN_STACK,
		.stack_size = SPAWN_STACK,
		.cgroup = (uint64_t)cgroup_fd,
	};
	return (pid_t)raw_clone(SYS_clone3, (long)&args, sizeof args, child_main, child);
}

pid_t spawn_start(void *area, struct child *child, const Tenon__Exec *req, const struct spawn_base *base,
		  int cgroup_fd, struct spawn_pipes *pipes, struct fault *f)
{
	_cleanup_pipes_ struct spawn_pipes ours = {-1, -1, -1, -1}, theirs = {-1, -1, -1, -1};
	int r = req->tty ? make_terminal(base->pts_fd, req->tty, &ours, &theirs, f)
			 : make_pipes(req->with_stdin, &ours, &theirs, f);
	if (r < 0)
		return r;
	if ((r = make_pipe(&ours.error, &theirs.error, false)) < 0) {
		*f = (struct fault){.code = TENON__CODE__CODE_RESOURCE_EXHAUSTED};
		return err_sys(&f->err, "pipe", -r, "no descriptors for the error pipe");
	}

	child->tty = req->tty != NULL;
	child->stdio[0] = child->tty ? theirs.out : req->with_stdin ? theirs.in : base->null_fd;
	child->stdio[1] = theirs.out;
	child->stdio[2] = child->tty ? theirs.out : theirs.err;
	child->error_fd = theirs.error;
	pid_t pid = clone_child(area, child, cgroup_fd);
	if (pid < 0) {
		*f = (struct fault){.code = TENON__CODE__CODE_RESOURCE_EXHAUSTED};
		return err_sys(&f->err, "clone", -pid, "cannot create a process");
	}
	*pipes = ours;
	ours = (struct spawn_pipes){-1, -1, -1, -1};
	return pid;
}

/* What the step that failed was about. */
static void describe(const struct child *c, enum child_step step, struct err *e)
{
	const char *name = child_step_name(step);
	switch (step) {
	case CHILD_EXECVE:
		if (c->errnum == E2BIG)
			err_set(e, name, E2BIG,
				"arguments and environment exceed a quarter of the stack limit");
		else
			err_sys(e, name, c->errnum, "execve \"%.90s\"", c->argv[0]);
		break;
	case CHILD_CHDIR:
		err_sys(e, name, c->errnum, "chdir \"%.90s\"", c->cwd);
		break;
	case CHILD_USER:
		err_sys(e, name, c->errnum, "user \"%.60s\": %s", c->user_spec,
			c->user->problem ? c->user->problem : "cannot be given the pipes");
		break;
	case CHILD_FILTER:
		err_set(e, name, c->errnum, "%s", c->gate_error.msg);
		break;
	default:
		err_sys(e, name, c->errnum, "%s for \"%.90s\"", name, c->argv[0]);
	}
}

enum spawn_outcome spawn_outcome(const struct child *child, struct fault *f)
{
	if (child->execving)
		return SPAWN_STARTED;
	*f = (struct fault){.code = TENON__CODE__CODE_EXEC_FAILED};
	if (child->errnum == 0)
		err_set(&f->err, child_step_name(CHILD_SPAWN), ECHILD,
			"died before it could start the program");
	else
		describe(child, (enum child_step)child->step, &f->err);
	return SPAWN_FAILED;
}

void spawn_give_filter(struct child *c, const struct filter *filter, int r, const struct err *e)
{
	if (r < 0) {
		c->gate_error = *e;
	} else {
		memcpy(c->filter, filter->program, filter->length * sizeof *c->filter);
		c->filter_length = filter->length;
	}
	child_open_gate(c, r < 0 ? CHILD_GATE_FAILED : CHILD_GATE_OPEN);
}

void spawn_release(void *area, bool warm)
{
	const struct child *child = area;
	if (!warm)
		memory_trim_shared(area, 0, SPAWN_AREA);
	else if (child->size > WARM_BYTES)
		memory_trim_shared(area, WARM_BYTES, SPAWN_AREA - SPAWN_STACK);
}
