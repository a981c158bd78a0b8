#include "guest/net/port.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "guest/net/dial.h"
#include "proto/cleanup.h"

#define DIAL_MS 10000
#define LINGER_MS 3000 /* for a program to take what came before the host left */

struct tunnel {
	struct channel *ch;
	int fd;            /* to the program */
	const uint8_t *in; /* bytes of the host's that the program has not taken yet */
	size_t in_len;
	uint8_t *out; /* one frame for the host; FRAME_SIZE_MAX */
	size_t out_at, out_len;
	bool told;        /* the program has ended its side: EOF is in `out`, or has left */
	bool half_closed; /* the host has, and the program sees it */
	bool host_left;   /* what it sent before that is still to be read */
	int broken;       /* errno: the program takes no more; what it said before that is still to be read */
};

static int failed(struct fault *f, const char *stage, int errnum)
{
	*f = (struct fault){.code = TENON__CODE__CODE_PORT_FAILED};
	return err_sys(&f->err, stage, errnum, "%s", stage);
}

static bool would_wait(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* ---- from the program to the host ---- */

static bool out_is_empty(const struct tunnel *t)
{
	return t->out_at == t->out_len;
}

/* Reads a frame's worth, once the one before has left. */
static int fill_out(struct tunnel *t, struct fault *f)
{
	if (t->told || t->host_left || !out_is_empty(t))
		return 0;
	ssize_t n = recv(t->fd, t->out + FRAME_DATA_HEAD, FRAME_DATA_FULL, MSG_DONTWAIT);
	if (n <= 0 && t->broken)
		return failed(f, "send", t->broken);
	if (n < 0)
		return would_wait() ? 0 : failed(f, "recv", errno);
	t->out_at = 0;
	if (n > 0) {
		frame_put_data_head(t->out, t->ch->stream, CHANNEL_STDOUT, t->ch->given, (size_t)n);
		t->out_len = FRAME_DATA_HEAD + (size_t)n;
		t->ch->given += (uint64_t)n;
	} else {
		t->out_len = frame_put_eof(t->out, t->ch->stream, CHANNEL_STDOUT, t->ch->given);
		t->told = true;
	}
	return 0;
}

static int send_out(struct tunnel *t)
{
	if (t->host_left || out_is_empty(t))
		return 0;
	ssize_t n = send(t->ch->fd, t->out + t->out_at, t->out_len - t->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return would_wait() ? 0 : -ECONNRESET;
	t->out_at += (size_t)n;
	return 0;
}

/* ---- from the host to the program ---- */

static bool wants_in(const struct tunnel *t)
{
	return t->in_len == 0 && !t->ch->host_ended && !t->broken;
}

static int fill_in(struct tunnel *t)
{
	struct frame frame;
	if (!wants_in(t))
		return 0;
	int r;
	do
		r = channel_try_frame(t->ch, &frame);
	while (r == 0 && channel_skips(&frame));
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	ssize_t n = channel_accept(t->ch, &frame, &t->in);
	if (n > 0)
		t->in_len = (size_t)n;
	return n < 0 ? (int)n : 0;
}

static int send_in(struct tunnel *t, struct fault *f)
{
	if (t->in_len > 0) {
		ssize_t n = send(t->fd, t->in, t->in_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && would_wait())
			return 0;
		if (n < 0 && t->told)
			return failed(f, "send", errno);
		if (n < 0)
			t->broken = errno;
		t->in += n < 0 ? 0 : n;
		t->in_len = n < 0 ? 0 : t->in_len - (size_t)n;
	}
	if (t->in_len == 0 && t->ch->host_ended && !t->half_closed) {
		t->half_closed = true;
		shutdown(t->fd, SHUT_WR);
	}
	return 0;
}

/* ---- both ---- */

static int look_at_host(struct tunnel *t, short revents)
{
	if (!(revents & (POLLRDHUP | POLLHUP | POLLERR)) || wants_in(t))
		return 0; /* reading will come to its end */
	t->host_left = true;
	return t->ch->host_ended ? -ECONNRESET : 0;
}

/* Neither side is polled for what it could only repeat. */
static int wait_for_news(struct tunnel *t, bool again, struct fault *f)
{
	bool watches_end = t->told && !t->half_closed;
	short events = (short)((out_is_empty(t) && !t->told && !t->host_left ? POLLIN : 0) |
			       (t->in_len > 0 ? POLLOUT : 0));
	struct pollfd fds[2] = {
		{.fd = events || watches_end ? t->fd : -1, .events = events},
		{.fd = t->host_left ? -1 : t->ch->fd,
		 .events = (short)(POLLRDHUP | (wants_in(t) ? POLLIN : 0) | (out_is_empty(t) ? 0 : POLLOUT))},
	};
	int r = channel_wait(fds, 2, again ? 0 : t->host_left ? LINGER_MS : -1, CHANNEL_IDLE);
	if (r == -ETIMEDOUT && again)
		return 0;
	if (r < 0)
		return r;
	if (watches_end && fds[0].revents & (POLLERR | POLLHUP))
		return failed(f, "recv", ECONNRESET);
	return look_at_host(t, fds[1].revents);
}

static int relay(struct tunnel *t, struct fault *f)
{
	for (;;) {
		int r = fill_out(t, f);
		if (r == 0)
			r = send_out(t);
		if (r == 0)
			r = fill_in(t);
		bool had_some = t->in_len > 0;
		if (r == 0)
			r = send_in(t, f);
		if (r < 0)
			return r;
		if (t->half_closed && t->host_left)
			return -ECONNRESET;
		if (t->half_closed && t->told && out_is_empty(t))
			return 0;
		/* What came in one piece with the frame just taken may be the next one. */
		r = wait_for_news(t, had_some && wants_in(t), f);
		if (r < 0)
			return r;
	}
}

/* So that the program does not take for an end what is none. */
static void reset(const struct tunnel *t)
{
	const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	if (!t->half_closed)
		setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static int dial(struct channel *ch, uint32_t port, struct fault *f)
{
	if (port == 0 || port > UINT16_MAX)
		return fault_invalid(f, "connect.port", "%u is no port", port);
	int fd = dial_loopback((uint16_t)port, ch->fd, DIAL_MS);
	if (fd == -ETIMEDOUT)
		return fault_code(f, TENON__CODE__CODE_TIMEOUT, "port %u does not accept", port);
	return fd < 0 && fd != -ECANCELED ? failed(f, "connect", -fd) : fd;
}

int port_connect(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		 struct fault *f)
{
	(void)ctx;
	_cleanup_close_ int fd = dial(ch, req->connect->port, f);
	if (fd < 0)
		return fd;
	struct tunnel t = {.ch = ch, .fd = fd, .out = bump_alloc(&ch->scratch, FRAME_SIZE_MAX)};
	if (!t.out)
		return fault_exhausted(f, NULL, "no room for a frame");
	int r = channel_answer_done(ch);
	if (r == 0)
		r = relay(&t, f);
	if (r < 0)
		reset(&t);
	bool to_be_told = f->code != TENON__CODE__CODE_OK || r == -ECANCELED;
	if (to_be_told && !out_is_empty(&t)) /* a frame that was begun; if this fails, so will telling it */
		channel_send(ch, t.out + t.out_at, t.out_len - t.out_at);
	return r;
}
