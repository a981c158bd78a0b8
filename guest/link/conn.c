#include "guest/link/conn.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest/memory.h"
#include "proto/cleanup.h"

#define WARM_MEMORY 65536 /* kept of a closed connection's buffers */

#define ALWAYS (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* Room in the socket is news only when there was none: else each read of the host's would wake us. */
static void set_writable(struct conn *c, bool writable)
{
	if (c->writable == writable)
		return;
	c->writable = writable;
	loop_add(c->loop, &c->source, c->fd, writable ? ALWAYS : ALWAYS | EPOLLOUT);
}

static void on_ready(struct source *s, uint32_t events)
{
	struct conn *c = container_of(s, struct conn, source);
	if (events & EPOLLOUT)
		set_writable(c, true);
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->hung_up = true;
}

int conn_open(struct conn *c, int fd, void (*deadline)(struct timer *), uint64_t at)
{
	c->source = (struct source){-1, on_ready};
	int r = loop_add(c->loop, &c->source, fd, ALWAYS);
	if (r < 0)
		return r;
	c->state = CONN_GREETING;
	c->fd = fd;
	c->readable = c->hung_up = c->pong_due = false;
	c->writable = true;
	c->last_stream = 0;
	c->late = 0;
	frame_reader_init(&c->reader, c->memory, CONN_READ_BUFFER);
	message_joiner_init(&c->joiner, c->memory + CONN_READ_BUFFER, MESSAGE_MAX);
	sendq_init(&c->out, c->memory + CONN_READ_BUFFER + MESSAGE_MAX, CONN_QUEUE);
	c->opened = clock_mono();
	timer_init(&c->greeting_deadline, deadline);
	timer_set(c->loop, &c->greeting_deadline, at);
	return 0;
}

void conn_close(struct conn *c)
{
	timer_clear(&c->greeting_deadline);
	loop_remove(c->loop, &c->source);
	close_fd(&c->fd);
	c->state = CONN_CLOSED;
	memory_trim(c->memory, WARM_MEMORY, CONN_MEMORY);
}

int conn_next(struct conn *c, struct frame *f, struct err *e)
{
	for (;;) {
		int r = frame_reader_next(&c->reader, f, e);
		if (r != 0 || !c->readable)
			return r;
		size_t room;
		frame_reader_space(&c->reader, &room);
		ssize_t n = frame_reader_fill(&c->reader, c->fd);
		if (n == -EAGAIN) {
			c->readable = false;
			return 0;
		}
		if (n <= 0)
			return err_set(e, "read", ECONNRESET, "the connection ended");
		if ((size_t)n < room && !c->hung_up)
			c->readable = false; /* drained: what comes later makes a new edge */
	}
}

/* The part of the pieces behind the first `done` bytes goes into the queue. */
static void queue_rest(struct sendq *q, const struct iovec *pieces, int n, size_t done)
{
	for (int i = 0; i < n; i++) {
		size_t len = pieces[i].iov_len;
		if (done < len)
			sendq_put(q, (const uint8_t *)pieces[i].iov_base + done, len - done);
		done -= done < len ? done : len;
	}
}

int conn_send(struct conn *c, const struct iovec *pieces, int n)
{
	struct iovec iov[CONN_PIECES + 1];
	int count = 0;
	size_t queued = sendq_len(&c->out), all = queued;
	if (queued > 0)
		iov[count++] = (struct iovec){c->out.buf + c->out.start, queued};
	for (int i = 0; i < n; i++) {
		iov[count++] = pieces[i];
		all += pieces[i].iov_len;
	}
	ssize_t sent = writev(c->fd, iov, count);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	if (sent < 0)
		sent = 0;
	if ((size_t)sent < all)
		set_writable(c, false);

	c->late = 0;
	size_t from_queue = (size_t)sent < queued ? (size_t)sent : queued;
	sendq_consume(&c->out, from_queue);
	/* Copied, not remembered: a ring may be dropped or freed before the socket takes the rest. */
	queue_rest(&c->out, pieces, n, (size_t)sent - from_queue);
	return 0;
}
