#include "child.h"

#include "proto/cleanup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* In the child; returns only the errno of what failed. */
static int become(char *const argv[], pid_t parent, const int *inherited, unsigned n, int output)
{
	sigset_t none;
	sigemptyset(&none);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return errno;
	/* The parent may have died before the prctl: then nobody will ever signal. */
	if (getppid() != parent)
		return ESRCH;
	if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
		return errno;
	for (unsigned i = 0; i < n; i++)
		if (fcntl(inherited[i], F_SETFD, 0) < 0)
			return errno;
	execvp(argv[0], argv);
	return errno;
}

static int spawn(char *const argv[], const int *inherited, unsigned n, int output, pid_t *out, struct err *e)
{
	int report[2];
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, "child", errno, "pipe");
	_cleanup_close_ int from = report[0];
	_cleanup_close_ int to = report[1];

	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return err_sys(e, "child", errno, "fork");
	if (pid == 0) {
		int errnum = become(argv, parent, inherited, n, output);
		(void)!write(to, &errnum, sizeof errnum);
		_exit(127);
	}
	close_fd(&to);
	int errnum = 0;
	ssize_t got;
	do
		got = read(from, &errnum, sizeof errnum);
	while (got < 0 && errno == EINTR);
	if (got == 0) {
		*out = pid;
		return 0;
	}
	waitpid(pid, NULL, 0);
	return err_sys(e, "child", errnum, "starting %s", argv[0]);
}

int child_spawn(char *const argv[], const int *inherited, unsigned n, int output, pid_t *pid, int *pidfd,
		struct err *e)
{
	int r = spawn(argv, inherited, n, output, pid, e);
	if (r < 0)
		return r;
	*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (*pidfd >= 0)
		return 0;
	r = err_sys(e, "child", errno, "pidfd_open");
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
	return r;
}
