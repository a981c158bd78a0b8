/* One connection: its head, then bytes both ways. Each side is read only while the other has room. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"
#include "proto/cleanup.h"

#define PIECE (32u << 10)

static const char connect_word[] = "CONNECT ";

struct tunnel_conn {
	LIST_ENTRY(tunnel_conn) entry;
	struct tunnels *tunnels;
	char box_id[129];
	uint16_t port;
	int fd;
	uv_poll_t poll;
	uv_timer_t deadline;
	unsigned handles;
	int polled;

	char head[TUNNEL_HEAD_MAX + 1];
	size_t head_len, early; /* head[early..head_len) is the service's already */
	bool asks;              /* it said CONNECT, and wants an answer */
	struct box_bulk *op;    /* NULL while the head is read */
	bool open;              /* the port has accepted */
	bool client_ended, agent_ended, end_sent;
	bool agent_full;    /* it has no room: nothing is read until it wakes us */
	const uint8_t *out; /* of the agent's, on the way to the client: valid until the next item */
	size_t out_len;
};

static void conn_free(uv_handle_t *h)
{
	struct tunnel_conn *c = h->data;
	if (--c->handles == 0)
		free(c);
}

void tunnel_conn_destroy(struct tunnel_conn *c)
{
	LIST_REMOVE(c, entry);
	c->tunnels->conn_count--;
	box_bulk_close(c->op);
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, conn_free);
	uv_close((uv_handle_t *)&c->deadline, conn_free);
	close_fd(&c->fd);
}

/* So that the client does not take for an end what is none. */
static void conn_reset(struct tunnel_conn *c)
{
	const struct linger at_once = {.l_onoff = 1};
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	tunnel_conn_destroy(c);
}

/* An answer to CONNECT that is not the tunnel, and the end. */
static void conn_refuse(struct tunnel_conn *c, const char *status, const char *message)
{
	char reply[1024];
	int len = snprintf(reply, sizeof reply,
			   "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
			   "Connection: close\r\n\r\n%.600s\n",
			   status, strnlen(message, 600) + 1, message);
	send(c->fd, reply, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
	tunnel_conn_destroy(c);
}

static void on_poll(uv_poll_t *p, int status, int events);

static void poll_update(struct tunnel_conn *c)
{
	bool reads = c->op ? c->open && !c->client_ended && !c->agent_full : true;
	int events = (reads ? UV_READABLE : 0) | (c->out_len ? UV_WRITABLE : 0);
	if (events == c->polled)
		return;
	c->polled = events;
	if (events)
		uv_poll_start(&c->poll, events, on_poll);
	else
		uv_poll_stop(&c->poll);
}

/* ---- client → agent ---- */

/* What came behind the head; true once all of it is on its way. */
static bool pass_early(struct tunnel_conn *c)
{
	size_t room;
	while (c->early < c->head_len && (room = box_bulk_room(c->op)) > 0) {
		size_t n = c->head_len - c->early;
		n = n < room ? n : room;
		box_bulk_send(c->op, c->head + c->early, n);
		c->early += n;
	}
	return c->early == c->head_len;
}

/* False: the connection is gone. */
static bool pass_in(struct tunnel_conn *c)
{
	uint8_t piece[PIECE];
	c->agent_full = !pass_early(c);
	for (int i = 0; i < 8 && !c->agent_full && !c->client_ended; i++) {
		size_t room = box_bulk_room(c->op);
		c->agent_full = room == 0;
		if (!room)
			break;
		ssize_t n = recv(c->fd, piece, room < PIECE ? room : PIECE, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			tunnel_conn_destroy(c); /* and with it the agent's: a reset there, too */
			return false;
		}
		if (n == 0)
			c->client_ended = true;
		else
			box_bulk_send(c->op, piece, (size_t)n);
	}
	if (c->client_ended && !c->end_sent && c->early == c->head_len) {
		c->end_sent = true;
		box_bulk_send_end(c->op);
	}
	return true;
}

/* ---- agent → client ---- */

static bool send_out(struct tunnel_conn *c)
{
	while (c->out_len > 0) {
		ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			tunnel_conn_destroy(c);
			return false;
		}
		c->out += n;
		c->out_len -= (size_t)n;
	}
	return true;
}

static bool on_answer(struct tunnel_conn *c)
{
	static const char yes[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	c->open = true;
	uv_timer_stop(&c->deadline);
	if (c->asks && send(c->fd, yes, sizeof yes - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof yes - 1) {
		tunnel_conn_destroy(c);
		return false;
	}
	return pass_in(c);
}

/* False: the connection is gone. */
static bool pass_out(struct tunnel_conn *c)
{
	struct box_bulk_item item;
	for (int i = 0; i < 8; i++) {
		if (!send_out(c))
			return false;
		if (c->out_len > 0)
			return true;
		box_bulk_next(c->op, PIECE, &item);
		switch (item.kind) {
		case BULK_ANSWER:
			if (!on_answer(c))
				return false;
			break;
		case BULK_DATA:
			c->out = item.bulk.data;
			c->out_len = item.bulk.len;
			break;
		case BULK_END:
			c->agent_ended = true;
			shutdown(c->fd, SHUT_WR);
			break;
		case BULK_FAILED:
			if (c->asks && !c->open)
				conn_refuse(c, "502 Bad Gateway", item.failure.message);
			else
				conn_reset(c);
			return false;
		default:
			return true;
		}
	}
	/* There may be more: at the next turn, for the others' sake. */
	uv_timer_start(&c->deadline, c->deadline.timer_cb, 0, 0);
	return true;
}

static void relay(struct tunnel_conn *c)
{
	if (!pass_out(c) || (c->open && !pass_in(c)))
		return;
	if (c->agent_ended && c->end_sent)
		tunnel_conn_destroy(c);
	else
		poll_update(c);
}

static void on_wake(void *arg)
{
	relay(arg);
}

/* ---- the head ---- */

static void begin(struct tunnel_conn *c, size_t early)
{
	struct box *b = boxes_find_id(c->tunnels->boxes, c->box_id);
	if (!b) {
		conn_refuse(c, "404 Not Found", "the box is gone");
		return;
	}
	Tenon__Connect connect = TENON__CONNECT__INIT;
	connect.port = c->port;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_CONNECT;
	req.connect = &connect;
	c->early = early;
	uv_timer_stop(&c->deadline); /* from here on the operation has its own */
	c->op = box_bulk(b, &req, true, on_wake, c);
	relay(c);
}

/* Nothing happens while the head is not whole. */
static void hear_head(struct tunnel_conn *c)
{
	size_t word = sizeof connect_word - 1, have = c->head_len < word ? c->head_len : word;
	if (memcmp(c->head, connect_word, have) != 0) {
		begin(c, 0);
		return;
	}
	const char *end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
	if (!end && c->head_len < TUNNEL_HEAD_MAX)
		return;
	const char *line = end ? memmem(c->head, (size_t)(end - c->head) + 2, "\r\n", 2) : NULL;
	if (!line || line - c->head < 18 || memcmp(line - 9, " HTTP/1.", 8) != 0) {
		conn_refuse(c, "400 Bad Request", "this is no CONNECT request of HTTP/1.1");
		return;
	}
	c->asks = true;
	begin(c, (size_t)(end + 4 - c->head));
}

static void read_head(struct tunnel_conn *c)
{
	ssize_t n = recv(c->fd, c->head + c->head_len, TUNNEL_HEAD_MAX - c->head_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		tunnel_conn_destroy(c);
		return;
	}
	c->head_len += (size_t)n;
	hear_head(c);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct tunnel_conn *c = p->data;
	(void)events;
	if (status < 0)
		tunnel_conn_destroy(c);
	else if (!c->op)
		read_head(c);
	else
		relay(c);
}

static void on_deadline(uv_timer_t *t)
{
	struct tunnel_conn *c = t->data;
	if (c->op)
		relay(c);
	else
		conn_refuse(c, "408 Request Timeout", "the request did not arrive in time");
}

void tunnel_conns_end(struct tunnel *t)
{
	struct tunnel_conn *c, *next;
	for (c = LIST_FIRST(&t->tunnels->conns); c; c = next) {
		next = LIST_NEXT(c, entry);
		if (c->port == t->port && strcmp(c->box_id, t->box_id) == 0)
			tunnel_conn_destroy(c);
	}
}

void tunnel_conn_create(struct tunnel *t, int fd)
{
	struct tunnels *ts = t->tunnels;
	struct tunnel_conn *c = calloc(1, sizeof *c);
	int on = 1;
	if (!c) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	c->tunnels = ts;
	c->port = t->port;
	memcpy(c->box_id, t->box_id, sizeof c->box_id);
	c->fd = fd;
	uv_poll_init(ts->loop, &c->poll, fd);
	uv_timer_init(ts->loop, &c->deadline);
	c->poll.data = c->deadline.data = c;
	c->handles = 2;
	LIST_INSERT_HEAD(&ts->conns, c, entry);
	ts->conn_count++;
	uv_timer_start(&c->deadline, on_deadline, TUNNEL_HEAD_MS, 0);
	poll_update(c);
}
