#include "vsock_conn.h"

#include "iov.h"
#include "proto/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OWES(c, op) ((c)->owed & (1u << (op)))

static void changed(struct conn *c)
{
	c->owner->changed(c->owner, c);
}

static void owe(struct conn *c, enum vsock_op op)
{
	c->owed |= 1u << op;
}

static void drop_socket(struct conn *c)
{
	loop_remove(c->owner->loop, &c->sock);
	close_fd(&c->fd);
	free(c->backlog);
	c->backlog = NULL;
	c->backlog_len = 0;
	c->readable = false;
}

static void become_gone(struct conn *c)
{
	c->state = CONN_GONE;
	c->owed = 0;
	loop_disarm(&c->deadline);
	drop_socket(c);
}

/* The client's side is over. A RST that is still owed goes out first. */
static void end(struct conn *c)
{
	if (!OWES(c, VSOCK_OP_RST)) {
		become_gone(c);
		return;
	}
	drop_socket(c);
	loop_disarm(&c->deadline);
	c->state = CONN_CLOSING;
	c->owed = 1u << VSOCK_OP_RST;
}

/* The guest is through with this connection. What it sent before still belongs to the client. */
static void guest_left(struct conn *c)
{
	if (c->state != CONN_OPEN || c->backlog_len == 0 || c->hung_up) {
		end(c);
		return;
	}
	loop_disarm(&c->deadline);
	c->state = CONN_DRAINING;
	c->owed &= 1u << VSOCK_OP_RST;
	c->readable = false;
	shutdown(c->fd, SHUT_RD);
}

void conn_abort(struct conn *c)
{
	if (c->state != CONN_DRAINING && c->state != CONN_GONE)
		owe(c, VSOCK_OP_RST);
	end(c);
	changed(c);
}

static void deadline_passed(struct loop_timer *t)
{
	conn_abort(container_of(t, struct conn, deadline));
}

/* The client stops receiving or sending. When it does neither, the guest shall answer with a RST. */
static void host_stops(struct conn *c, unsigned flags)
{
	if ((c->host_shut | flags) == c->host_shut)
		return;
	c->host_shut |= flags;
	if (c->host_shut == VSOCK_SHUT_BOTH) {
		c->state = CONN_CLOSING;
		drop_socket(c);
		loop_arm(c->owner->loop, &c->deadline, CONN_CLOSE_MS, deadline_passed);
	}
	owe(c, VSOCK_OP_SHUTDOWN);
}

static void forwarded(struct conn *c, uint32_t n)
{
	c->credit.fwd_cnt += n;
	if (c->state == CONN_OPEN && credit_update_due(&c->credit))
		owe(c, VSOCK_OP_CREDIT_UPDATE);
}

/* The client takes no more: what the guest still sends is swallowed, so that its window does not close. */
static void client_refuses(struct conn *c)
{
	forwarded(c, c->backlog_len);
	free(steal_ptr(&c->backlog));
	c->backlog_len = 0;
	if (c->state == CONN_DRAINING)
		end(c);
	else
		host_stops(c, VSOCK_SHUT_RECEIVE);
}

static void flush_backlog(struct conn *c)
{
	while (c->backlog_len > 0) {
		uint32_t straight = CREDIT_WINDOW - c->backlog_at;
		struct iovec iov[2] = {
			{c->backlog + c->backlog_at, c->backlog_len < straight ? c->backlog_len : straight},
			{c->backlog, c->backlog_len < straight ? 0 : c->backlog_len - straight},
		};
		ssize_t n = writev(c->fd, iov, 2);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			client_refuses(c);
			return;
		}
		c->backlog_at = (c->backlog_at + (uint32_t)n) % CREDIT_WINDOW;
		c->backlog_len -= (uint32_t)n;
		forwarded(c, (uint32_t)n);
	}
	free(steal_ptr(&c->backlog));
	c->backlog_at = 0;
	if (c->state == CONN_DRAINING)
		end(c);
	else if (c->guest_shut & VSOCK_SHUT_SEND)
		shutdown(c->fd, SHUT_WR);
}

/* Keeps what the socket would not take. The window bounds it: see credit_receive. */
static bool keep(struct conn *c, const struct iovec *iov, unsigned n, uint32_t len)
{
	if (!c->backlog && !(c->backlog = malloc(CREDIT_WINDOW)))
		return false;
	for (unsigned i = 0; i < n && len > 0; i++) {
		uint32_t part = iov[i].iov_len < len ? (uint32_t)iov[i].iov_len : len;
		uint32_t at = (c->backlog_at + c->backlog_len) % CREDIT_WINDOW;
		uint32_t straight = CREDIT_WINDOW - at < part ? CREDIT_WINDOW - at : part;
		memcpy(c->backlog + at, iov[i].iov_base, straight);
		memcpy(c->backlog, (uint8_t *)iov[i].iov_base + straight, part - straight);
		c->backlog_len += part;
		len -= part;
	}
	return true;
}

static void receive_bytes(struct conn *c, uint32_t len, struct iovec *iov, unsigned n)
{
	if ((c->guest_shut & VSOCK_SHUT_SEND) || !credit_receive(&c->credit, len)) {
		conn_abort(c);
		return;
	}
	c->owner->from_guest_bytes += len;
	n = iov_cap(iov, n, len);
	if (c->host_shut & VSOCK_SHUT_RECEIVE) {
		forwarded(c, len);
		return;
	}
	/* IOV_MAX is far above VRING_IOV_MAX. A short write means a full socket: the rest waits for it. */
	while (c->backlog_len == 0 && len > 0) {
		ssize_t w = writev(c->fd, iov, (int)n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && errno == EAGAIN)
			break;
		if (w < 0) {
			forwarded(c, len);
			client_refuses(c);
			return;
		}
		forwarded(c, (uint32_t)w);
		len -= (uint32_t)w;
		iov = iov_skip(iov, &n, (size_t)w);
	}
	if (len > 0 && !keep(c, iov, n, len))
		conn_abort(c);
}

static void accepted(struct conn *c)
{
	char line[32];
	int n = snprintf(line, sizeof line, "OK %u\n", c->host_port);
	loop_disarm(&c->deadline);
	c->state = CONN_OPEN;
	/* The first bytes of a fresh socket: it takes them all, or the client is gone. */
	if (send(c->fd, line, (size_t)n, MSG_NOSIGNAL) != n)
		conn_abort(c);
}

void conn_take_credit(struct conn *c, const struct vsock_hdr *hdr)
{
	c->credit.peer_alloc = hdr->buf_alloc;
	c->credit.peer_fwd_cnt = hdr->fwd_cnt;
	if (c->state == CONN_OPEN && credit_free(&c->credit) > 0)
		loop_disarm(&c->deadline);
}

static void guest_stops(struct conn *c, unsigned flags)
{
	c->guest_shut |= flags & VSOCK_SHUT_BOTH;
	if (c->guest_shut == VSOCK_SHUT_BOTH) {
		/* Answered at once, so that the guest's port is free; the client may still drain. */
		owe(c, VSOCK_OP_RST);
		guest_left(c);
		return;
	}
	if (flags & VSOCK_SHUT_RECEIVE)
		shutdown(c->fd, SHUT_RD);
	if ((flags & VSOCK_SHUT_SEND) && c->backlog_len == 0)
		shutdown(c->fd, SHUT_WR);
}

void conn_receive(struct conn *c, const struct vsock_hdr *hdr, struct iovec *iov, unsigned n)
{
	conn_take_credit(c, hdr);

	if (hdr->op == VSOCK_OP_RST) {
		c->owed = 0;
		guest_left(c);
	} else if (c->state == CONN_REQUESTED) {
		if (hdr->op == VSOCK_OP_RESPONSE && !OWES(c, VSOCK_OP_REQUEST))
			accepted(c);
		else
			conn_abort(c);
	} else if (c->state == CONN_OPEN) {
		switch (hdr->op) {
		case VSOCK_OP_RW:
			receive_bytes(c, hdr->len, iov, n);
			break;
		case VSOCK_OP_SHUTDOWN:
			guest_stops(c, hdr->flags);
			break;
		case VSOCK_OP_CREDIT_REQUEST:
			owe(c, VSOCK_OP_CREDIT_UPDATE);
			break;
		case VSOCK_OP_CREDIT_UPDATE:
			break;
		default:
			conn_abort(c);
		}
	} else if (c->state == CONN_CLOSING && hdr->op == VSOCK_OP_SHUTDOWN &&
		   (hdr->flags & VSOCK_SHUT_BOTH) == VSOCK_SHUT_BOTH) {
		/* Both closed at once and both wait for the other's RST: ours goes out now. */
		c->owed = 1u << VSOCK_OP_RST;
	}
	/* Other packets in CLOSING crossed with our SHUTDOWN and mean nothing any more. */
	changed(c);
}

static bool wants_to_read(const struct conn *c)
{
	return c->state == CONN_OPEN && c->readable && !(c->guest_shut & VSOCK_SHUT_RECEIVE) &&
	       !(c->host_shut & VSOCK_SHUT_SEND);
}

bool conn_has_packet(const struct conn *c)
{
	return c->owed || (wants_to_read(c) && credit_free(&c->credit) > 0);
}

static void socket_ready(struct loop_source *src, uint32_t events)
{
	struct conn *c = container_of(src, struct conn, sock);
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLHUP | EPOLLERR))
		c->hung_up = true;

	if (c->state == CONN_REQUESTED && c->hung_up) {
		conn_abort(c);
		return;
	}
	if (c->hung_up && (c->guest_shut & VSOCK_SHUT_RECEIVE))
		/* Nobody will ever read the client's end from this socket, so the end is now. */
		host_stops(c, VSOCK_SHUT_BOTH);
	else if (c->backlog_len > 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		flush_backlog(c);
	changed(c);
}

/* Asked for only when it stays away: a guest that reads tells by itself, and each question interrupts it. */
static void credit_stays_away(struct loop_timer *t)
{
	struct conn *c = container_of(t, struct conn, deadline);
	owe(c, VSOCK_OP_CREDIT_REQUEST);
	changed(c);
}

/* Returns payload bytes; 0: nothing to send now. */
static uint32_t read_client(struct conn *c, struct iovec *iov, unsigned n)
{
	n = iov_cap(iov, n, credit_free(&c->credit));
	ssize_t got;
	do
		got = readv(c->fd, iov, (int)n);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		c->credit.tx_cnt += (uint32_t)got;
		if (credit_free(&c->credit) == 0)
			loop_arm(c->owner->loop, &c->deadline, CONN_ASK_MS, credit_stays_away);
		c->owner->to_guest_bytes += (uint64_t)got;
		return (uint32_t)got;
	}
	c->readable = false;
	if (got == 0)
		host_stops(c, c->hung_up ? VSOCK_SHUT_BOTH : VSOCK_SHUT_SEND);
	else if (errno != EAGAIN)
		host_stops(c, VSOCK_SHUT_BOTH);
	return 0;
}

static void fill_header(struct conn *c, struct vsock_hdr *hdr, enum vsock_op op, uint32_t len)
{
	*hdr = (struct vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = c->owner->guest_cid,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.len = len,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = op == VSOCK_OP_SHUTDOWN ? c->host_shut : 0,
		.buf_alloc = CREDIT_WINDOW,
		.fwd_cnt = c->credit.fwd_cnt,
	};
	c->credit.told_fwd_cnt = c->credit.fwd_cnt;
	c->owed &= ~(1u << VSOCK_OP_CREDIT_UPDATE);
}

static bool next_owed(struct conn *c, enum vsock_op *op)
{
	static const enum vsock_op order[] = {
		VSOCK_OP_RST,           VSOCK_OP_REQUEST,        VSOCK_OP_RESPONSE,
		VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST, VSOCK_OP_SHUTDOWN,
	};
	for (unsigned i = 0; i < sizeof order / sizeof *order; i++)
		if (OWES(c, order[i])) {
			*op = order[i];
			c->owed &= ~(1u << order[i]);
			return true;
		}
	return false;
}

bool conn_next_packet(struct conn *c, struct vsock_hdr *hdr, struct iovec *iov, unsigned n)
{
	enum vsock_op op = VSOCK_OP_RW;
	uint32_t len = 0;
	if (!next_owed(c, &op)) {
		if (wants_to_read(c) && credit_free(&c->credit) > 0)
			len = read_client(c, iov, n);
		if (len == 0 && !next_owed(c, &op))
			return false;
	}
	fill_header(c, hdr, op, len);
	if (op == VSOCK_OP_RST && c->state != CONN_DRAINING)
		become_gone(c);
	return true;
}

struct conn *conn_create(struct conn_owner *owner, int fd, uint32_t host_port, uint32_t guest_port,
			 bool accepting)
{
	_cleanup_close_ int client = fd;
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->owner = owner;
	c->fd = c->sock.fd = -1;
	c->host_port = host_port;
	c->guest_port = guest_port;
	c->state = accepting ? CONN_OPEN : CONN_REQUESTED;
	owe(c, accepting ? VSOCK_OP_RESPONSE : VSOCK_OP_REQUEST);

	/* Edge-triggered: `readable` remembers the edge, so a client whom the guest makes wait costs nothing.
	 */
	int r = loop_add(owner->loop, &c->sock, client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
			 socket_ready);
	if (r < 0) {
		free(c);
		errno = -r;
		return NULL;
	}
	c->fd = steal_fd(&client);
	if (!accepting)
		loop_arm(owner->loop, &c->deadline, CONN_ANSWER_MS, deadline_passed);
	return c;
}

void conn_destroy(struct conn *c)
{
	if (!c)
		return;
	become_gone(c);
	free(c);
}
