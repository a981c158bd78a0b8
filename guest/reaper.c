#include "guest/reaper.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void reaper_run(struct reaper *r)
{
	for (;;) {
		int status;
		struct rusage ru;
		pid_t pid = wait4(-1, &status, WNOHANG, &ru);
		if (pid <= 0)
			return;
		if (!execs_reaped(r->execs, pid, status, &ru) && !worker_reaped(pid))
			upgrade_reaped(r->upgrade, pid, status);
	}
}

static void on_signal(struct source *s, uint32_t events)
{
	(void)events;
	struct reaper *r = container_of(s, struct reaper, source);
	struct signalfd_siginfo info[8];
	ssize_t n = read(r->fd, info, sizeof info);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof *info; i++)
		if (info[i].ssi_signo != SIGCHLD)
			power_shutdown(r->power, 0);
	reaper_run(r);
}

/* Whoever started us may have ignored some, and children inherit that. By the system call, since musl's
 * sigaction refuses the three signals it keeps for itself; KILL and STOP refuse, rightly. */
static void default_signals(void)
{
	const uint64_t sa_default[4] = {0}; /* the kernel's struct: handler, flags, restorer, mask */
	for (int signo = 1; signo < NSIG; signo++)
		syscall(SYS_rt_sigaction, signo, sa_default, NULL, sizeof(uint64_t));
}

int reaper_init(struct reaper *r, struct loop *loop, struct err *e)
{
	sigset_t all, wanted;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	default_signals();

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT); /* Ctrl-Alt-Del */
	sigaddset(&wanted, SIGPWR);
	r->fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	r->source = (struct source){-1, on_signal};
	int n = r->fd < 0 ? -errno : loop_add(loop, &r->source, r->fd, EPOLLIN);
	return n < 0 ? err_sys(e, "signals", -n, "cannot listen for signals") : 0;
}
