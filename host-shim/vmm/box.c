#include "box.h"

#include "proto/cleanup.h"
#include "proto/clock.h"
#include "unix_sock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define START_MS 30000
#define STOP_MS 2000
#define GONE_MS 5000 /* between QEMU's sockets closing and its end: it flushes disks there */
#define LOG_LIMIT (1024 * 1024)

/* fds that are no connection: the loop, sockets, logs, queues, clients of vmm.sock, lines awaited. */
#define FDS_RESERVED (64 + VMM_SOCK_CLIENTS_MAX + LISTENER_WAITING_MAX)
#define FDS_WANTED (VSOCK_CONNS_MAX + FDS_RESERVED)

static void say(struct box *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct box *b, const char *fmt, ...)
{
	char line[512];
	uint64_t now = clock_ms(CLOCK_REALTIME);
	time_t seconds = (time_t)(now / 1000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof line - n, ".%03uZ ", (unsigned)(now % 1000));
	va_list ap;
	va_start(ap, fmt);
	int r = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	va_end(ap);
	n += r < 0 ? 0 : (size_t)r < sizeof line - n - 2 ? (size_t)r : sizeof line - n - 2;
	line[n++] = '\n';
	rotlog_write(&b->log, line, n);
}

static void tell_ready(struct box *b, const char *line)
{
	if (b->ready_fd >= 0)
		dprintf(b->ready_fd, "%s\n", line);
	close_fd(&b->ready_fd);
}

/* ---- the end ---- */

static void stop_too_late(struct loop_timer *t)
{
	struct box *b = container_of(t, struct box, deadline);
	say(b, "QEMU did not quit in time: killing it");
	qemu_kill(&b->qemu);
}

/* Ends QEMU: it is asked to quit, so that disk images are flushed, and killed after deadline_ms. The first
 * reason stands; later calls change nothing. */
static void box_stop(struct box *b, const char *reason, unsigned deadline_ms, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void box_stop(struct box *b, const char *reason, unsigned deadline_ms, const char *fmt, ...)
{
	if (b->phase >= BOX_STOPPING)
		return;
	b->phase = BOX_STOPPING;
	b->end_reason = reason;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(b->end_message, sizeof b->end_message, fmt, ap);
	va_end(ap);
	say(b, "stopping: %s", b->end_message);

	json_t *quit = json_pack("{s:s}", "execute", "quit");
	int r = qmp_execute(&b->qmp, quit, deadline_ms, NULL, NULL, NULL);
	json_decref(quit);
	loop_arm(&b->loop, &b->deadline, r < 0 ? 0 : deadline_ms, stop_too_late);
}

/* What QEMU's end means, if it was not we who ended it. */
static const char *reason_of_exit(const struct box *b, int status)
{
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (b->end_reason)
		return b->end_reason;
	if (b->phase == BOX_STARTING)
		return "start_failed";
	if (clean && strcmp(b->shutdown_cause, "guest-shutdown") == 0)
		return "guest_shutdown";
	if (clean &&
	    (strcmp(b->shutdown_cause, "guest-reset") == 0 || strcmp(b->shutdown_cause, "guest-panic") == 0))
		return "guest_reset";
	if (clean && strcmp(b->shutdown_cause, "host-qmp-quit") == 0)
		return "stopped";
	return "qemu_died";
}

static void describe_exit(struct box *b, int status)
{
	struct exit_record *x = &b->record;
	x->reason = reason_of_exit(b, status);
	x->has_status = true;
	x->status = status;
	if (b->end_message[0])
		snprintf(x->message, sizeof x->message, "%s", b->end_message);
	else if (strcmp(x->reason, "guest_shutdown") == 0)
		snprintf(x->message, sizeof x->message, "the guest powered off");
	else if (strcmp(x->reason, "guest_reset") == 0)
		snprintf(x->message, sizeof x->message, "the guest reset or panicked; its console log tells");
	else if (WIFSIGNALED(status))
		snprintf(x->message, sizeof x->message, "QEMU was ended by signal %d%s%s", WTERMSIG(status),
			 b->last_output[0] ? ": " : "", b->last_output);
	else
		snprintf(x->message, sizeof x->message, "QEMU exited with code %d%s%s", WEXITSTATUS(status),
			 b->last_output[0] ? ": " : "", b->last_output);
}

static void console_ready(struct loop_source *src, uint32_t events);
static void output_ready(struct loop_source *src, uint32_t events);

static void qemu_exited(struct loop_source *src, uint32_t events)
{
	struct box *b = container_of(src, struct box, qemu_exit);
	int status;
	(void)events;
	if (!qemu_reap(&b->qemu, &status))
		return;
	/* Its last words lie in the sockets still, and say why it ended. */
	qmp_drain(&b->qmp);
	while (b->output_src.fd >= 0)
		output_ready(&b->output_src, EPOLLHUP);
	while (b->console_src.fd >= 0)
		console_ready(&b->console_src, EPOLLHUP);
	describe_exit(b, status);
	b->phase = BOX_ENDED;
	b->loop.quit = true;
}

/* ---- what QEMU says ---- */

/* Reads once; at the end of the stream, or when nothing can come any more, stops watching. */
static ssize_t drain(struct box *b, struct loop_source *src, char *buf, size_t cap, uint32_t events)
{
	ssize_t n = read(src->fd, buf, cap);
	if (n < 0 && (errno == EINTR || (errno == EAGAIN && !(events & EPOLLHUP))))
		return 0;
	if (n <= 0)
		loop_remove(&b->loop, src);
	return n;
}

static void console_ready(struct loop_source *src, uint32_t events)
{
	struct box *b = container_of(src, struct box, console_src);
	char buf[32 * 1024];
	ssize_t n = drain(b, src, buf, sizeof buf, events);
	if (n > 0)
		rotlog_write(&b->console, buf, (size_t)n);
}

static void output_ready(struct loop_source *src, uint32_t events)
{
	struct box *b = container_of(src, struct box, output_src);
	char buf[4096];
	ssize_t n = drain(b, src, buf, sizeof buf - 1, events);
	if (n <= 0)
		return;
	rotlog_write(&b->log, buf, (size_t)n);
	buf[n] = '\0';
	for (char *save, *line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		snprintf(b->last_output, sizeof b->last_output, "%s", line);
}

static void monitor_ready(struct qmp *q)
{
	struct box *b = container_of(q, struct box, qmp);
	if (b->phase != BOX_STARTING)
		return;
	b->phase = BOX_RUNNING;
	loop_disarm(&b->deadline);
	say(b, "ready: QEMU %d runs", (int)b->qemu.pid);
	tell_ready(b, "ready");
}

static void monitor_event(struct qmp *q, const char *name, const json_t *data)
{
	struct box *b = container_of(q, struct box, qmp);
	if (strcmp(name, "SHUTDOWN") == 0) {
		const char *cause = json_string_value(json_object_get(data, "reason"));
		snprintf(b->shutdown_cause, sizeof b->shutdown_cause, "%s", cause ? cause : "");
		say(b, "QEMU shuts down: %s", b->shutdown_cause);
		b->run_state = "shutdown";
	} else if (strcmp(name, "STOP") == 0) {
		b->run_state = "paused";
	} else if (strcmp(name, "RESUME") == 0) {
		b->run_state = "running";
	}
}

static void monitor_closed(struct qmp *q, const struct err *e)
{
	struct box *b = container_of(q, struct box, qmp);
	if (b->phase < BOX_STOPPING) {
		say(b, "%s", e->msg);
		loop_arm(&b->loop, &b->deadline, GONE_MS, stop_too_late);
	}
}

static void device_failed(struct vsock *dev, const struct err *e)
{
	box_stop(container_of(dev, struct box, vsock), "qemu_died", STOP_MS, "the vsock device is broken: %s",
		 e->msg);
}

static void vhost_user_ended(struct vhost_user *vu, const struct err *e)
{
	struct box *b = container_of(vu, struct box, vhost_user);
	if (e->errnum != ECONNRESET)
		box_stop(b, "qemu_died", STOP_MS, "the vsock device is broken: %s", e->msg);
	else if (b->phase < BOX_STOPPING)
		/* QEMU is about to end, or else it is made to. */
		loop_arm(&b->loop, &b->deadline, GONE_MS, stop_too_late);
}

/* A box whose network is gone for good is not what was asked for. */
static void network_exited(struct loop_source *src, uint32_t events)
{
	struct box *b = container_of(src, struct box, network_exit);
	char words[200];
	(void)events;
	loop_remove(&b->loop, src);
	network_describe_end(&b->network, words, sizeof words);
	box_stop(b, b->phase == BOX_STARTING ? "start_failed" : "qemu_died", STOP_MS,
		 "the network is broken: %s", words);
}

static int dial_host(struct vsock *dev, uint32_t port)
{
	struct box *b = container_of(dev, struct box, vsock);
	char path[sizeof b->vsock_path + 16];
	snprintf(path, sizeof path, "%s_%u", b->vsock_path, port);
	return unix_sock_connect(path, NULL);
}

/* ---- what clients of vmm.sock say ---- */

static uint64_t start_ticks(void)
{
	char text[1024];
	_cleanup_close_ int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* Field 2 may hold anything, spaces too, but the last ')' ends it. */
	char *at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

static void op_status(void *ctx, struct vmm_status *s)
{
	const struct box *b = ctx;
	*s = (struct vmm_status){
		.vmm_pid = getpid(),
		.qemu_pid = b->qemu.pid,
		.vmm_start_ticks = start_ticks(),
		.started_ns = b->record.started_ms * 1000000,
		.qemu_state = b->run_state,
		.connections = b->vsock.n_conns,
		.to_guest_bytes = b->vsock.owner.to_guest_bytes,
		.from_guest_bytes = b->vsock.owner.from_guest_bytes,
	};
}

static void op_stop(void *ctx, unsigned deadline_ms)
{
	box_stop(ctx, "stopped", deadline_ms, "stopped on request");
}

static int op_qmp(void *ctx, const json_t *command, unsigned deadline_ms, qmp_done_fn done, void *done_ctx,
		  struct err *e)
{
	struct box *b = ctx;
	return qmp_execute(&b->qmp, command, deadline_ms, done, done_ctx, e);
}

static ssize_t op_console(void *ctx, void *buf, size_t cap, uint64_t *end)
{
	const struct box *b = ctx;
	*end = b->console.total;
	return rotlog_tail(&b->console, buf, cap);
}

static const struct vsock_ops device_ops = {.dial = dial_host, .failed = device_failed};
static const struct vmm_sock_ops sock_ops = {
	.status = op_status, .stop = op_stop, .qmp = op_qmp, .console = op_console};

/* ---- the start ---- */

static void signalled(struct loop_source *src, uint32_t events)
{
	struct box *b = container_of(src, struct box, signals);
	struct signalfd_siginfo info;
	(void)events;
	if (read(b->signal_fd, &info, sizeof info) == sizeof info)
		box_stop(b, "stopped", STOP_MS, "stopped by signal %u", info.ssi_signo);
}

static void start_too_late(struct loop_timer *t)
{
	box_stop(container_of(t, struct box, deadline), "start_failed", STOP_MS,
		 "QEMU's monitor did not greet in %d s", START_MS / 1000);
}

/* The connections that fds allow, having asked for as many fds as there may be. */
static unsigned raise_fd_limit(void)
{
	struct rlimit lim = {.rlim_cur = 1024, .rlim_max = 1024};
	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_cur < FDS_WANTED) {
		lim.rlim_cur = lim.rlim_max < FDS_WANTED ? lim.rlim_max : FDS_WANTED;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	return lim.rlim_cur > FDS_RESERVED ? (unsigned)(lim.rlim_cur - FDS_RESERVED) : 0;
}

static int socket_path(char *out, size_t cap, const char *dir, const char *name, struct err *e)
{
	/* Room for "_4294967295" behind vsock.sock, in sun_path: better now than at the first dial. */
	int n = snprintf(out, cap, "%s/%s", dir, name);
	if (n < 0 || n + 11 >= 108)
		return err_set(e, "run_dir", ENAMETOOLONG,
			       "--run-dir of %zu bytes is too long for socket names", strlen(dir));
	return 0;
}

static int watch(struct box *b, struct loop_source *src, int fd,
		 void (*ready)(struct loop_source *, uint32_t), struct err *e)
{
	int r = loop_add(&b->loop, src, fd, EPOLLIN, ready);
	return r < 0 ? err_sys(e, "loop", -r, "epoll_ctl") : 0;
}

static int start(struct box *b, struct err *e)
{
	const struct options *o = b->options;
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return err_sys(e, "signals", errno, "sigprocmask");
	b->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b->signal_fd < 0)
		return err_sys(e, "signals", errno, "signalfd");

	int r;
	if ((r = watch(b, &b->signals, b->signal_fd, signalled, e)) < 0 ||
	    (r = socket_path(b->vsock_path, sizeof b->vsock_path, o->run_dir, "vsock.sock", e)) < 0 ||
	    (r = socket_path(b->vmm_path, sizeof b->vmm_path, o->run_dir, "vmm.sock", e)) < 0 ||
	    (r = rotlog_open(&b->console, b->state_dir, "console.log", LOG_LIMIT, e)) < 0 ||
	    (r = listener_init(&b->listener, &b->loop, &b->vsock, b->vsock_path, e)) < 0 ||
	    (r = vmm_sock_init(&b->vmm_sock, &b->loop, b->vmm_path, &sock_ops, b, e)) < 0 ||
	    (o->network && (r = network_start(&b->network, e)) < 0) ||
	    (o->network && (r = watch(b, &b->network_exit, b->network.pidfd, network_exited, e)) < 0) ||
	    (r = qemu_start(&b->qemu, o, b->network.card, e)) < 0 ||
	    (r = watch(b, &b->qemu_exit, b->qemu.pidfd, qemu_exited, e)) < 0 ||
	    (r = watch(b, &b->console_src, b->qemu.console, console_ready, e)) < 0 ||
	    (r = watch(b, &b->output_src, b->qemu.output, output_ready, e)) < 0 ||
	    (r = qmp_init(&b->qmp, &b->loop, steal_fd(&b->qemu.qmp), e)) < 0)
		return r;
	close_fd(&b->network.card);
	b->qmp.ready = monitor_ready;
	b->qmp.event = monitor_event;
	b->qmp.closed = monitor_closed;
	r = vhost_user_init(&b->vhost_user, &b->loop, &b->vsock, steal_fd(&b->qemu.vhost), vhost_user_ended);
	if (r < 0)
		return err_sys(e, "loop", -r, "epoll_ctl");
	loop_arm(&b->loop, &b->deadline, START_MS, start_too_late);
	return 0;
}

static void init(struct box *b, const struct options *o, int state_dir, int ready_fd)
{
	*b = (struct box){
		.options = o,
		.state_dir = state_dir,
		.ready_fd = ready_fd,
		.signal_fd = -1,
		.signals.fd = -1,
		.qemu_exit.fd = -1,
		.network_exit.fd = -1,
		.console_src.fd = -1,
		.output_src.fd = -1,
		.run_state = "running",
		.record = {.reason = "start_failed", .started_ms = clock_ms(CLOCK_REALTIME)},
		.qemu = {.pidfd = -1, .vhost = -1, .qmp = -1, .console = -1, .output = -1},
		.qmp = {.fd = -1, .src.fd = -1},
		.listener = {.fd = -1, .src.fd = -1},
		.vmm_sock = {.fd = -1, .src.fd = -1},
		.vhost_user = {.fd = -1, .sock.fd = -1},
		.console.fd = -1,
		.log.fd = -1,
	};
	network_init(&b->network);
	b->qmp.loop = b->listener.loop = b->vmm_sock.loop = b->vhost_user.loop = &b->loop;
}

static void finish(struct box *b)
{
	struct err e = {0};
	b->record.at_ms = clock_ms(CLOCK_REALTIME);
	say(b, "ended: %s: %s", b->record.reason, b->record.message);
	listener_finish(&b->listener);
	if (b->vsock_path[0])
		unlink(b->vsock_path);
	if (exit_record_write(&b->record, b->state_dir, &e) < 0)
		say(b, "%s", e.msg);
	vmm_sock_stopped(&b->vmm_sock);
	qmp_finish(&b->qmp);
	vmm_sock_finish(&b->vmm_sock);
	if (b->vmm_path[0])
		unlink(b->vmm_path);
	vsock_finish(&b->vsock);
	qemu_finish(&b->qemu);
	network_finish(&b->network);
	close_fd(&b->signal_fd);
	rotlog_close(&b->console);
	rotlog_close(&b->log);
	loop_finish(&b->loop);
}

int box_run(struct box *b, const struct options *o, int state_dir, int ready_fd)
{
	struct err e = {0};
	init(b, o, state_dir, ready_fd);
	unlinkat(state_dir, EXIT_RECORD_NAME, 0);

	int r = rotlog_open(&b->log, state_dir, "vmm.log", LOG_LIMIT, &e);
	int epoll = loop_init(&b->loop);
	if (r == 0 && epoll < 0)
		r = err_sys(&e, "loop", -epoll, "epoll_create1");
	vsock_init(&b->vsock, &b->loop, &device_ops, o->cid, raise_fd_limit());
	if (r == 0)
		r = start(b, &e);
	if (r == 0) {
		r = loop_run(&b->loop);
		if (r < 0)
			err_sys(&e, "loop", -r, "epoll_wait");
	}
	if (r < 0)
		snprintf(b->record.message, sizeof b->record.message, "%s", e.msg);
	bool failed = strcmp(b->record.reason, "start_failed") == 0;
	finish(b);
	tell_ready(b, b->record.message);
	return failed;
}
