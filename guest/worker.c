#include "guest/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

/* The worker is a fork, so that a pointer to a literal (err.stage) means the same on both sides. */
struct report {
	int result;
	struct err err;
};

static void send_report(int sock, const struct report *report, int fd)
{
	struct iovec iov = {(void *)report, sizeof *report};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0) {
		m.msg_control = control.buf;
		m.msg_controllen = sizeof control.buf;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	sendmsg(sock, &m, MSG_NOSIGNAL);
}

static ssize_t receive_report(int sock, struct report *report, int *fd)
{
	struct iovec iov = {report, sizeof *report};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.buf,
			   .msg_controllen = sizeof control.buf};
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof *fd);
	return n;
}

static void finish(struct worker *w, int r, const struct err *e, int fd)
{
	timer_clear(&w->deadline);
	loop_remove(w->loop, &w->source);
	close_fd(&w->fd);
	w->done(w, r, e, fd);
}

static void on_report(struct source *s, uint32_t events)
{
	(void)events;
	struct worker *w = container_of(s, struct worker, source);
	struct report report;
	int fd = -1;
	ssize_t n = receive_report(w->fd, &report, &fd);
	if (n < 0)
		return;
	if (n != sizeof report) {
		struct err e;
		finish(w, err_set(&e, "worker", ECHILD, "the worker died"), &e, -1);
		return;
	}
	finish(w, report.result, &report.err, fd);
}

static void on_deadline(struct timer *t)
{
	struct worker *w = container_of(t, struct worker, deadline);
	struct err e;
	if (w->pid > 0)
		kill(w->pid, SIGKILL);
	finish(w, err_set(&e, "worker", ETIMEDOUT, "it took too long"), &e, -1);
}

void worker_init(struct worker *w, struct loop *loop,
		 void (*done)(struct worker *, int, const struct err *, int))
{
	*w = (struct worker){.loop = loop, .source = {-1, on_report}, .fd = -1, .done = done};
	timer_init(&w->deadline, on_deadline);
}

bool worker_reaped(struct worker *w, pid_t pid)
{
	if (pid != w->pid)
		return false;
	w->pid = 0;
	return true;
}

static void close_all_but(int a, int b)
{
	int low = a < b ? a : b, high = a < b ? b : a;
	if (low < 3)
		low = 2;
	else if (low > 3)
		syscall(SYS_close_range, 3, low - 1, 0);
	if (high > low + 1)
		syscall(SYS_close_range, low + 1, high - 1, 0);
	syscall(SYS_close_range, high + 1, ~0U, 0);
}

int worker_start(struct worker *w, int (*work)(void *arg, int *send_fd, struct err *e), void *arg, int keep,
		 unsigned ms)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	_cleanup_close_ int ours = pair[0], theirs = pair[1];
	int r = loop_add(w->loop, &w->source, ours, EPOLLIN);
	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0) {
		close_all_but(theirs, keep);
		struct report report = {0};
		int fd = -1;
		report.result = work(arg, &fd, &report.err);
		send_report(theirs, &report, fd);
		_exit(0);
	}
	if (pid < 0) {
		r = -errno;
		loop_remove(w->loop, &w->source);
		return r;
	}
	w->pid = pid;
	w->fd = steal_fd(&ours);
	timer_set(w->loop, &w->deadline, clock_mono() + ms * NSEC_PER_MSEC);
	return 0;
}
