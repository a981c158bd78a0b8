#include "stack.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addresses.h"
#include "gate.h"
#include "proto/clock.h"

#define FRAMES_A_TURN 64 /* then the sockets have theirs */
#define GUEST_WAIT_MS 100

/* ---- what libslirp calls ---- */

/* A guest that takes nothing for a while, or stands still, loses frames, as on any network: TCP sends them
 * again. */
static ssize_t send_packet(const void *frame, size_t len, void *opaque)
{
	struct stack *s = opaque;
	ssize_t n = send(s->guest, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno == EAGAIN) {
		struct pollfd p = {.fd = s->guest, .events = POLLOUT};
		if (poll(&p, 1, GUEST_WAIT_MS) > 0)
			send(s->guest, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return (ssize_t)len;
}

/* What a guest does wrong is its own affair, and no way to fill a log. */
static void guest_error(const char *msg, void *opaque)
{
	(void)msg;
	(void)opaque;
}

static int64_t clock_get_ns(void *opaque)
{
	(void)opaque;
	return (int64_t)clock_ns(CLOCK_MONOTONIC);
}

/* Its only timer sends router advertisements, of which nobody here has any use: the guest is told its
 * addresses by tenond. */
static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	(void)id;
	(void)cb_opaque;
	return opaque;
}

static void timer_free(void *timer, void *opaque)
{
	(void)timer;
	(void)opaque;
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)timer;
	(void)expire_ms;
	(void)opaque;
}

static void ignore_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void notify(void *opaque)
{
	(void)opaque;
}

static const struct SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_get_ns,
	.timer_new_opaque = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = ignore_fd,
	.unregister_poll_fd = ignore_fd,
	.notify = notify,
};

/* ---- poll(2) ---- */

static int add_poll(int fd, int events, void *opaque)
{
	struct stack *s = opaque;
	if (s->n_fds == sizeof s->fds / sizeof *s->fds)
		return -1;
	short wanted = 0;
	wanted |= events & SLIRP_POLL_IN ? POLLIN : 0;
	wanted |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	wanted |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	s->fds[s->n_fds] = (struct pollfd){.fd = fd, .events = wanted};
	return (int)s->n_fds++;
}

static int get_revents(int i, void *opaque)
{
	const struct stack *s = opaque;
	int got = i < 0 ? 0 : s->fds[i].revents, events = 0;
	events |= got & POLLIN ? SLIRP_POLL_IN : 0;
	events |= got & POLLOUT ? SLIRP_POLL_OUT : 0;
	events |= got & POLLPRI ? SLIRP_POLL_PRI : 0;
	events |= got & POLLERR ? SLIRP_POLL_ERR : 0;
	events |= got & POLLHUP ? SLIRP_POLL_HUP : 0;
	return events;
}

static int take_frames(struct stack *s, struct err *e)
{
	for (int i = 0; i < FRAMES_A_TURN; i++) {
		ssize_t n = recv(s->guest, s->frame, sizeof s->frame, MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR
				       ? 0
				       : err_sys(e, "network", errno, "receiving from QEMU");
		if (gate_passes(s->frame, (size_t)n))
			slirp_input(s->slirp, s->frame, (int)n);
	}
	return 0;
}

int stack_run(struct stack *s, struct err *e)
{
	for (int r = 0; r == 0;) {
		uint32_t timeout = UINT32_MAX;
		s->fds[0] = (struct pollfd){.fd = s->guest, .events = POLLIN};
		s->n_fds = 1;
		slirp_pollfds_fill(s->slirp, &timeout, add_poll, s);
		int n = poll(s->fds, s->n_fds, timeout > INT32_MAX ? -1 : (int)timeout);
		if (n < 0 && errno != EINTR)
			return err_sys(e, "network", errno, "poll");
		slirp_pollfds_poll(s->slirp, n < 0, get_revents, s);
		if (n > 0 && s->fds[0].revents)
			r = take_frames(s, e);
	}
	return -e->errnum;
}

static struct in_addr ipv4(const uint8_t bytes[4])
{
	struct in_addr out;
	memcpy(&out, bytes, 4);
	return out;
}

static struct in6_addr ipv6(const uint8_t bytes[16])
{
	struct in6_addr out;
	memcpy(&out, bytes, 16);
	return out;
}

int stack_init(struct stack *s, int guest, struct err *e)
{
	const SlirpConfig config = {
		.version = 4,
		.in_enabled = true,
		.vnetwork = ipv4((const uint8_t[]){10, 0, 2, 0}),
		.vnetmask = ipv4((const uint8_t[]){255, 255, 255, 0}),
		.vhost = ipv4((const uint8_t[]){NET_GATEWAY}),
		.vdhcp_start = ipv4((const uint8_t[]){NET_GUEST}),
		.vnameserver = ipv4((const uint8_t[]){NET_RESOLVER}),
		.in6_enabled = true,
		.vprefix_addr6 = ipv6((const uint8_t[16]){NET_PREFIX6_BYTES}),
		.vprefix_len = NET_PREFIX6,
		.vhost6 = ipv6((const uint8_t[]){NET_GATEWAY6}),
		.vnameserver6 = ipv6((const uint8_t[]){NET_RESOLVER6}),
		.if_mtu = NET_MTU,
		.if_mru = NET_MTU,
		/* The gate keeps loopback away already. */
		.disable_host_loopback = true,
		.disable_dhcp = true,
	};
	*s = (struct stack){.guest = guest};
	s->slirp = slirp_new(&config, &callbacks, s);
	return s->slirp ? 0
			: err_set(e, "network", EINVAL, "libslirp %s does not start", slirp_version_string());
}
