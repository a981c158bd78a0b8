#include "guest/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

/* The worker is a fork, so that a pointer to a literal (err.stage) means the same on both sides. */
struct report {
	int result;
	bool offer;      /* it goes on */
	unsigned places; /* bit i: fds[i] comes along */
	struct err err;
};

/* Room for the descriptors of one report, aligned for the kernel. */
union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(WORKER_FDS * sizeof(int))];
};

static struct worker *running; /* found by the reaper */
static int to_agent = -1;      /* in a worker: its socket */

static void send_report(int sock, struct report *report, const int fds[WORKER_FDS])
{
	int sent[WORKER_FDS], n = 0;
	for (int i = 0; i < WORKER_FDS && report->result == 0; i++)
		if (fds[i] >= 0) {
			report->places |= 1U << i;
			sent[n++] = fds[i];
		}
	struct iovec iov = {report, sizeof *report};
	union control control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (n > 0) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE((size_t)n * sizeof *sent);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof *sent);
		memcpy(CMSG_DATA(c), sent, (size_t)n * sizeof *sent);
	}
	sendmsg(sock, &m, MSG_NOSIGNAL);
}

/* The descriptors of a message go to their places. False, with all closed, if some did not arrive: the kernel
 * drops those for which the table has no room. */
static bool place_fds(struct msghdr *m, unsigned places, int fds[WORKER_FDS])
{
	int got[WORKER_FDS], n = 0, used = 0;
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);
		n = (int)(bytes / sizeof *got);
		memcpy(got, CMSG_DATA(c), bytes);
	}
	bool all = n == __builtin_popcount(places);
	for (int i = 0; all && i < WORKER_FDS; i++)
		if (places & 1U << i)
			fds[i] = got[used++];
	while (used < n)
		close(got[used++]);
	return all;
}

static ssize_t receive_report(int sock, struct report *report, int fds[WORKER_FDS])
{
	struct iovec iov = {report, sizeof *report};
	union control control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.buf,
			   .msg_controllen = sizeof control.buf};
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n == sizeof *report && !place_fds(&m, report->places, fds))
		report->result = err_sys(&report->err, "worker", EMFILE, "its descriptors were lost");
	return n;
}

static void forget(struct worker *w)
{
	timer_clear(&w->deadline);
	loop_remove(w->loop, &w->source);
	close_fd(&w->fd);
	for (struct worker **p = &running; *p; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			break;
		}
}

static void fail(struct worker *w, int errnum, const char *why)
{
	struct err e;
	int none[WORKER_FDS] = {-1, -1, -1, -1};
	forget(w);
	w->done(w, err_set(&e, "worker", errnum, "%s", why), &e, none);
}

static void on_report(struct source *s, uint32_t events)
{
	(void)events;
	struct worker *w = container_of(s, struct worker, source);
	struct report report;
	int fds[WORKER_FDS] = {-1, -1, -1, -1};
	ssize_t n = receive_report(w->fd, &report, fds);
	if (n < 0)
		return;
	if (n != sizeof report) {
		fail(w, ECHILD, "the worker died");
		return;
	}
	if (report.offer) {
		if (report.result == 0)
			w->offered(w, fds);
		return;
	}
	forget(w);
	w->done(w, report.result, &report.err, fds);
}

void worker_offer(const int fds[WORKER_FDS])
{
	struct report report = {.offer = true};
	send_report(to_agent, &report, fds);
}

static void on_deadline(struct timer *t)
{
	struct worker *w = container_of(t, struct worker, deadline);
	if (w->pid > 0)
		kill(w->pid, SIGKILL);
	fail(w, ETIMEDOUT, "it took too long");
}

void worker_init(struct worker *w, struct loop *loop,
		 void (*done)(struct worker *, int, const struct err *, int[WORKER_FDS]))
{
	*w = (struct worker){.loop = loop, .source = {-1, on_report}, .fd = -1, .done = done};
	timer_init(&w->deadline, on_deadline);
}

bool worker_reaped(pid_t pid)
{
	for (struct worker *w = running; w; w = w->next)
		if (w->pid == pid) {
			w->pid = 0;
			return true;
		}
	return false;
}

bool workers_stand_alone(void)
{
	for (struct worker *w = running; w; w = w->next)
		if (!w->stands_alone)
			return false;
	return true;
}

size_t workers_list(uint32_t *pids, size_t n)
{
	size_t found = 0;
	for (struct worker *w = running; w && found < n; w = w->next)
		if (w->pid > 0)
			pids[found++] = (uint32_t)w->pid;
	return found;
}

void workers_signal(int signo)
{
	for (struct worker *w = running; w; w = w->next)
		if (w->pid > 0)
			kill(w->pid, signo);
}

void worker_stop(struct worker *w)
{
	if (!worker_running(w))
		return;
	if (w->pid > 0)
		kill(w->pid, SIGKILL);
	forget(w);
}

static void close_all_but(const int *keep, int n, int mine)
{
	int kept[WORKER_KEEP + 1] = {mine}, count = 1;
	for (int i = 0; i < n; i++) {
		int at = count;
		if (keep[i] < 3)
			continue;
		for (; at > 0 && kept[at - 1] > keep[i]; at--)
			kept[at] = kept[at - 1];
		kept[at] = keep[i];
		count++;
	}
	int from = 3;
	for (int i = 0; i < count; i++) {
		if (kept[i] > from)
			syscall(SYS_close_range, from, kept[i] - 1, 0);
		from = kept[i] < from ? from : kept[i] + 1;
	}
	syscall(SYS_close_range, from, ~0U, 0);
}

int worker_start(struct worker *w, int (*work)(void *arg, int fds[WORKER_FDS], struct err *e), void *arg,
		 const int *keep, int n, unsigned ms)
{
	int pair[2];
	if (n > WORKER_KEEP)
		return -E2BIG;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	_cleanup_close_ int ours = pair[0], theirs = pair[1];
	int r = loop_add(w->loop, &w->source, ours, EPOLLIN);
	if (r < 0)
		return r;
	pid_t us = getpid(), pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != us)
			_exit(1); /* it had been too late for that */
		close_all_but(keep, n, theirs);
		to_agent = theirs;
		struct report report = {0};
		int fds[WORKER_FDS] = {-1, -1, -1, -1};
		report.result = work(arg, fds, &report.err);
		send_report(theirs, &report, fds);
		_exit(0);
	}
	if (pid < 0) {
		r = -errno;
		loop_remove(w->loop, &w->source);
		return r;
	}
	w->pid = pid;
	w->fd = steal_fd(&ours);
	w->next = running;
	running = w;
	if (ms > 0)
		timer_set(w->loop, &w->deadline, clock_mono() + ms * NSEC_PER_MSEC);
	return 0;
}
