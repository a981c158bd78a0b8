#include "process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "proto/cleanup.h"

struct process {
	struct process_id id;
	int pidfd, gate, output;
	bool ours, detached, gone;
	uv_poll_t exit;
	uv_timer_t deadline;
	int handles; /* open ones: the last to close frees */
	process_exited_fn exited;
	void *arg;
};

/* ---- identity ------------------------------------------------------------------------------------- */

static ssize_t read_file(const char *path, char *buf, size_t cap)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int process_identify(struct process_id *out, pid_t pid)
{
	char path[32], buf[1024];
	*out = (struct process_id){.pid = pid};
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (read_file(path, buf, sizeof buf) < 0)
		return -ESRCH;
	/* The name in field 2 is the program's choice and may hold blanks and brackets: what counts begins
	 * after it. */
	const char *rest = strrchr(buf, ')');
	if (!rest || sscanf(rest + 1,
			    " %*c"
			    "%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s"
			    "%" SCNu64,
			    &out->ticks) != 1)
		return -ESRCH;
	if (read_file("/proc/sys/kernel/random/boot_id", out->boot, sizeof out->boot) < 36)
		return -ESRCH;
	return 0;
}

const struct process_id *process_identity(const struct process *p)
{
	return &p->id;
}

/* ---- watching ------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct process *p = h->data;
	if (--p->handles > 0)
		return;
	close_fd(&p->pidfd);
	close_fd(&p->gate);
	close_fd(&p->output);
	free(p);
}

static void on_exit_ready(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	struct process *p = poll->data;
	siginfo_t info = {0};
	int how = -1;
	if (p->ours && waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) == 0) {
		if (!info.si_pid)
			return;
		how = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
						 : W_EXITCODE(0, info.si_status);
	}
	p->gone = true;
	uv_poll_stop(&p->exit);
	uv_timer_stop(&p->deadline);

	_cleanup_free_ char *text = p->output >= 0 ? malloc(PROCESS_OUTPUT_MAX + 1) : NULL;
	size_t len = 0;
	ssize_t n;
	while (text && len < PROCESS_OUTPUT_MAX &&
	       (n = read(p->output, text + len, PROCESS_OUTPUT_MAX - len)) > 0)
		len += (size_t)n;
	if (text)
		text[len] = '\0';
	p->exited(p->arg, how, text ? text : "");
}

static void on_deadline(uv_timer_t *t)
{
	process_kill(t->data, SIGKILL);
}

static int watch(struct process *p, uv_loop_t *loop, unsigned deadline_ms, struct err *e)
{
	int r = uv_poll_init(loop, &p->exit, p->pidfd);
	if (r < 0)
		return err_sys(e, "process", -r, "watching a pidfd");
	uv_timer_init(loop, &p->deadline);
	p->handles = 2;
	p->exit.data = p->deadline.data = p;
	uv_poll_start(&p->exit, UV_READABLE, on_exit_ready);
	if (deadline_ms)
		uv_timer_start(&p->deadline, on_deadline, deadline_ms, 0);
	return 0;
}

int process_adopt(struct process **out, uv_loop_t *loop, const struct process_id *id,
		  process_exited_fn exited, void *arg, struct err *e)
{
	if (id->pid <= 0)
		return err_set(e, "process", ESRCH, "no process");
	_cleanup_free_ struct process *p = calloc(1, sizeof *p);
	if (!p)
		return err_sys(e, "process", ENOMEM, "process");
	*p = (struct process){
		.id = *id, .gate = -1, .output = -1, .detached = true, .exited = exited, .arg = arg};
	/* First the handle, then the question who it is: in this order the answer stays true. */
	_cleanup_close_ int pidfd = pidfd_open(id->pid, 0);
	struct process_id now;
	if (pidfd < 0 || process_identify(&now, id->pid) < 0 || now.ticks != id->ticks ||
	    strcmp(now.boot, id->boot) != 0)
		return err_set(e, "process", ESRCH, "process %d is gone", (int)id->pid);
	p->pidfd = pidfd;
	int r = watch(p, loop, 0, e);
	if (r < 0)
		return r;
	steal_fd(&pidfd);
	*out = steal_ptr(&p);
	return 0;
}

void process_kill(struct process *p, int signo)
{
	if (!p->gone)
		pidfd_send_signal(p->pidfd, signo, NULL, 0);
}

void process_destroy(struct process *p)
{
	if (!p)
		return;
	if (!p->detached)
		process_kill(p, SIGKILL);
	uv_close((uv_handle_t *)&p->exit, on_closed);
	uv_close((uv_handle_t *)&p->deadline, on_closed);
}

/* ---- spawning ------------------------------------------------------------------------------------- */

struct child_fds {
	int null, output, gate;
};

/* Between fork and exec of a program with threads: nothing here may allocate or lock. */
static void become(const struct process_config *c, const struct child_fds *fds, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	/* Before any signal is let through: libuv's handler would write it into the pipe that we share with
	 * our parent. */
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (c->detached)
		setsid();
	else if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return;

	int said = fds->output >= 0 ? fds->output : fds->null;
	if (dup2(c->input ? c->input : fds->null, STDIN_FILENO) < 0 ||
	    dup2(c->output ? c->output : said, STDOUT_FILENO) < 0 || dup2(said, STDERR_FILENO) < 0)
		return;
	char go;
	if (fds->gate >= 0 && read(fds->gate, &go, 1) != 1)
		return;
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	if (c->inherit >= 0)
		fcntl(c->inherit, F_SETFD, 0);
	execvp(c->argv[0], (char *const *)c->argv);
}

static int fork_child(struct process *p, const struct process_config *c, struct err *e)
{
	int gate[2] = {-1, -1}, output[2] = {-1, -1};
	if (c->gated && pipe2(gate, O_CLOEXEC) < 0)
		return err_sys(e, "process", errno, "pipe");
	p->gate = gate[1];
	_cleanup_close_ int gate_child = gate[0];
	if (c->capture && pipe2(output, O_CLOEXEC) < 0)
		return err_sys(e, "process", errno, "pipe");
	p->output = output[0];
	_cleanup_close_ int output_child = output[1];
	if (p->output >= 0)
		fcntl(p->output, F_SETFL, O_NONBLOCK);
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return err_sys(e, "process", errno, "/dev/null");

	struct child_fds fds = {.null = null, .output = output_child, .gate = gate_child};
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t parent = getpid(), pid = fork();
	int errnum = errno;
	if (pid != 0)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return err_sys(e, "process", errnum, "fork");
	if (pid == 0) {
		/* Our end of the gate: held by the child too, its EOF would never come. */
		if (p->gate >= 0)
			close(p->gate);
		become(c, &fds, parent);
		_exit(127);
	}
	/* Until it is waited for, its pid is taken: no race from here to the pidfd. */
	p->pidfd = pidfd_open(pid, 0);
	if (p->pidfd < 0 || process_identify(&p->id, pid) < 0) {
		int r = err_sys(e, "process", errno ? errno : ESRCH, "opening the child's pidfd");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	return 0;
}

int process_spawn(struct process **out, const struct process_config *c, struct err *e)
{
	_cleanup_free_ struct process *p = calloc(1, sizeof *p);
	if (!p)
		return err_sys(e, "process", ENOMEM, "process");
	*p = (struct process){.pidfd = -1,
			      .gate = -1,
			      .output = -1,
			      .ours = true,
			      .detached = c->detached,
			      .exited = c->exited,
			      .arg = c->arg};
	int r = fork_child(p, c, e);
	if (r == 0) {
		r = watch(p, c->loop, c->deadline_ms, e);
		if (r == 0) {
			*out = steal_ptr(&p);
			return 0;
		}
		process_kill(p, SIGKILL);
		waitpid(p->id.pid, NULL, 0);
	}
	close_fd(&p->pidfd);
	close_fd(&p->gate);
	close_fd(&p->output);
	return r;
}

void process_release(struct process *p)
{
	/* If it died meanwhile nobody reads: SIGPIPE is ignored and its exit is told anyway. */
	if (p->gate >= 0 && write(p->gate, "", 1) < 0)
		process_kill(p, SIGKILL);
	close_fd(&p->gate);
}
