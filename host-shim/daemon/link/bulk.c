#include "host-shim/daemon/link/bulk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host-shim/daemon/link/dial.h"
#include "host-shim/daemon/link/unpack.h"
#include "proto/cleanup.h"
#include "proto/message.h"

#define READ_BUFFER ((size_t)2 * FRAME_SIZE_MAX)
#define UNPACK_MAX (1u << 20)
#define STREAM 1u /* the only one: a connection serves one operation here */

/* Who sends what after the RSP. */
enum flow { FLOW_NONE, FLOW_TO_AGENT, FLOW_FROM_AGENT, FLOW_EVENTS, FLOW_BOTH };
enum state { BULK_GREETING, BULK_HELLO, BULK_ASKED, BULK_ANSWERED };

struct bulk {
	struct bulk_config config;
	enum flow flow;
	enum state state;
	bool endless; /* silence is no fault: a watch, a tunnel */
	int fd;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned handles;
	int polled;
	uint64_t alive_ms; /* uv_now when bytes last moved */

	struct frame_reader reader;
	struct message_joiner joiner;
	bool wants_read, wants_room;
	const uint8_t *data; /* of the DATA frame that is being handed out, in the reader's buffer */
	size_t data_len;
	uint64_t received, sent;
	bool end_sent, ended, end_told;
	uint64_t total;

	uint8_t *out;
	size_t out_start, out_end, out_cap;
	bool deaf; /* it takes no more: why is in what came before */

	Tenon__BulkResponse *answer; /* of the item before */
	Tenon__BulkEvent *event;
	bool failed;
	Tenon__Error *error;
	struct err why; /* errnum 0: all is well; else it is told once the buffer is empty */
};

static enum flow flow_of(const Tenon__BulkRequest *req)
{
	switch (req->op_case) {
	case TENON__BULK_REQUEST__OP_CONNECT:
		return FLOW_BOTH;
	case TENON__BULK_REQUEST__OP_READ:
	case TENON__BULK_REQUEST__OP_TAR_OUT:
		return FLOW_FROM_AGENT;
	case TENON__BULK_REQUEST__OP_WRITE:
	case TENON__BULK_REQUEST__OP_TAR_IN:
	case TENON__BULK_REQUEST__OP_UPGRADE:
		return FLOW_TO_AGENT;
	case TENON__BULK_REQUEST__OP_LIST:
	case TENON__BULK_REQUEST__OP_WATCH:
	case TENON__BULK_REQUEST__OP_PROCESSES:
		return FLOW_EVENTS;
	default:
		return FLOW_NONE;
	}
}

/* ---- sending ---------------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *h, int status, int events);

static void poll_update(struct bulk *b)
{
	int events = (b->wants_read && !b->why.errnum ? UV_READABLE : 0) |
		     (b->out_start < b->out_end && b->state > BULK_GREETING ? UV_WRITABLE : 0);
	if (events == b->polled)
		return;
	b->polled = events;
	if (events)
		uv_poll_start(&b->poll, events, on_poll);
	else
		uv_poll_stop(&b->poll);
}

static void out_write(struct bulk *b)
{
	while (b->out_start < b->out_end) {
		ssize_t n = send(b->fd, b->out + b->out_start, b->out_end - b->out_start,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			b->deaf = true;
			b->out_start = b->out_end;
			break;
		}
		b->out_start += (size_t)n;
		b->alive_ms = uv_now(b->config.loop);
	}
	if (b->out_start == b->out_end)
		b->out_start = b->out_end = 0;
	poll_update(b);
}

/* Room for n more bytes at the end; NULL without memory. */
static uint8_t *out_extend(struct bulk *b, size_t n)
{
	if (b->out_cap - b->out_end < n && b->out_start > 0) {
		memmove(b->out, b->out + b->out_start, b->out_end - b->out_start);
		b->out_end -= b->out_start;
		b->out_start = 0;
	}
	if (b->out_cap - b->out_end < n) {
		size_t cap = b->out_cap ? b->out_cap : 4096;
		while (cap - b->out_end < n)
			cap *= 2;
		uint8_t *grown = realloc(b->out, cap);
		if (!grown)
			return NULL;
		b->out = grown;
		b->out_cap = cap;
	}
	uint8_t *p = b->out + b->out_end;
	b->out_end += n;
	return p;
}

static void out_put(struct bulk *b, const void *data, size_t len)
{
	uint8_t *p = b->deaf ? NULL : out_extend(b, len);
	if (p)
		memcpy(p, data, len);
	else if (!b->deaf && !b->why.errnum)
		err_set(&b->why, "bulk", ENOMEM, "no memory");
}

/* HELLO, and the request behind it: the worker finds it in its socket. */
static void say_hello(struct bulk *b)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_HELLO_MAX], *body = frame + FRAME_HEADER_SIZE;
	Tenon__Hello hello = TENON__HELLO__INIT;
	hello.role = TENON__ROLE__ROLE_BULK;
	hello.host_epoch = b->config.host_epoch;
	hello.version = (char *)"tenond";
	frame_put_hello_prefix(body);
	size_t len = FRAME_HELLO_PREFIX + tenon__hello__pack(&hello, body + FRAME_HELLO_PREFIX);
	frame_put_header(frame, &(struct frame){.len = (uint32_t)len, .type = FRAME_HELLO});
	send(b->fd, frame, FRAME_HEADER_SIZE + len, MSG_NOSIGNAL | MSG_DONTWAIT);
	b->state = BULK_HELLO;
	out_write(b);
}

size_t bulk_room(struct bulk *b)
{
	size_t queued = b->out_end - b->out_start;
	size_t room = b->state == BULK_ANSWERED && queued < BULK_QUEUE ? BULK_QUEUE - queued : 0;
	b->wants_room = room == 0;
	return room;
}

void bulk_send(struct bulk *b, const void *data, size_t len)
{
	const uint8_t *at = data;
	if (b->out_start == b->out_end)
		b->alive_ms = uv_now(b->config.loop);
	while (len > 0) {
		uint8_t head[FRAME_DATA_HEAD];
		size_t n = len < FRAME_DATA_FULL ? len : FRAME_DATA_FULL;
		out_put(b, head, frame_put_data_head(head, STREAM, CHANNEL_STDIN, b->sent, n));
		out_put(b, at, n);
		b->sent += n;
		at += n;
		len -= n;
	}
	out_write(b);
}

void bulk_send_end(struct bulk *b)
{
	uint8_t frame[FRAME_SMALL_MAX];
	out_put(b, frame, frame_put_eof(frame, STREAM, CHANNEL_STDIN, b->sent));
	b->end_sent = true;
	b->alive_ms = uv_now(b->config.loop);
	out_write(b);
}

/* ---- receiving -------------------------------------------------------------------------------------- */

static int hear_answer(struct bulk *b, const struct message *m, struct bulk_item *out, struct err *e)
{
	if (b->state == BULK_ANSWERED)
		return err_set(e, "bulk", EPROTO, "a second response");
	b->answer = (Tenon__BulkResponse *)unpack_bounded(&tenon__bulk_response__descriptor, m->data, m->len,
							  UNPACK_MAX, e);
	if (!b->answer)
		return -EPROTO;
	if (b->answer->error) {
		b->error = b->answer->error;
		b->answer->error = NULL;
		b->failed = true;
		return 0;
	}
	if (b->answer->result_case == TENON__BULK_RESPONSE__RESULT__NOT_SET)
		return err_set(e, "bulk", EPROTO, "a response without a result");
	b->state = BULK_ANSWERED;
	b->ended = b->flow == FLOW_NONE;
	out->kind = BULK_ANSWER;
	out->answer = b->answer;
	return 0;
}

static int hear_event(struct bulk *b, const struct message *m, struct bulk_item *out, struct err *e)
{
	if (b->state != BULK_ANSWERED || b->flow != FLOW_EVENTS)
		return err_set(e, "bulk", EPROTO, "an event where none belongs");
	b->event = (Tenon__BulkEvent *)unpack_bounded(&tenon__bulk_event__descriptor, m->data, m->len,
						      UNPACK_MAX, e);
	if (!b->event)
		return -EPROTO;
	if (b->event->kind_case == TENON__BULK_EVENT__KIND__NOT_SET)
		return 0; /* newer than we are */
	out->kind = BULK_EVENT;
	out->event = b->event;
	return 0;
}

static int hear_message(struct bulk *b, const struct frame *f, struct bulk_item *out, struct err *e)
{
	struct message m;
	if (!b->joiner.buf && (f->flags & FRAME_MORE)) {
		uint8_t *buf = malloc(MESSAGE_FROM_AGENT_MAX);
		if (!buf)
			return err_set(e, "bulk", ENOMEM, "no memory for a long message");
		message_joiner_init(&b->joiner, buf, MESSAGE_FROM_AGENT_MAX);
	}
	int r = message_join(&b->joiner, f, &m, e);
	if (r <= 0)
		return r;
	return m.type == FRAME_RSP ? hear_answer(b, &m, out, e) : hear_event(b, &m, out, e);
}

static int hear_data(struct bulk *b, const struct frame *f, struct err *e)
{
	bool belongs = b->flow == FLOW_FROM_AGENT || b->flow == FLOW_BOTH;
	if (b->state != BULK_ANSWERED || !belongs || frame_channel(f) != CHANNEL_STDOUT)
		return err_set(e, "bulk", EPROTO, "data where none belongs");
	if (frame_offset(f) != b->received)
		return err_set(e, "bulk", EPROTO, "data at byte %llu, not %llu",
			       (unsigned long long)frame_offset(f), (unsigned long long)b->received);
	b->data = frame_data(f, &b->data_len);
	b->received += b->data_len;
	return 0;
}

static int hear_eof(struct bulk *b, const struct frame *f, struct err *e)
{
	uint64_t total = frame_offset(f);
	bool holds = b->state == BULK_ANSWERED && frame_channel(f) == CHANNEL_STDOUT;
	switch (b->flow) {
	case FLOW_NONE:
		holds = false;
		break;
	case FLOW_TO_AGENT:
		holds = holds && b->end_sent && total <= b->sent;
		break;
	case FLOW_FROM_AGENT:
	case FLOW_BOTH:
		holds = holds && total == b->received;
		break;
	case FLOW_EVENTS:
		break;
	}
	if (!holds)
		return err_set(e, "bulk", EPROTO, "an end where none belongs");
	b->ended = true;
	b->total = total;
	return 0;
}

static int hear_error(struct bulk *b, const struct frame *f, struct err *e)
{
	b->error =
		(Tenon__Error *)unpack_bounded(&tenon__error__descriptor, f->payload, f->len, UNPACK_MAX, e);
	b->failed = b->error;
	return b->error ? 0 : -EPROTO;
}

static int hear(struct bulk *b, const struct frame *f, struct bulk_item *out, struct err *e)
{
	if (f->type == FRAME_GOAWAY)
		return hear_error(b, f, e);
	if (f->type > FRAME_GOAWAY)
		return 0; /* unknown and optional: frame_decode has seen to it */
	if (f->stream != STREAM || b->ended)
		/* RESET may follow the end of one direction of a tunnel. */
		return f->type == FRAME_RESET && f->stream == STREAM && b->flow == FLOW_BOTH
			       ? hear_error(b, f, e)
			       : err_set(e, "bulk", EPROTO, "a frame of type %u where none belongs", f->type);
	switch (f->type) {
	case FRAME_RSP:
	case FRAME_EVENT:
		return hear_message(b, f, out, e);
	case FRAME_DATA:
		return hear_data(b, f, e);
	case FRAME_EOF:
		return hear_eof(b, f, e);
	case FRAME_RESET:
		return hear_error(b, f, e);
	default:
		return err_set(e, "bulk", EPROTO, "a frame of type %u from the agent", f->type);
	}
}

static void forget_item(struct bulk *b)
{
	tenon__bulk_response__free_unpacked(b->answer, NULL);
	tenon__bulk_event__free_unpacked(b->event, NULL);
	b->answer = NULL;
	b->event = NULL;
}

static void give_data(struct bulk *b, size_t max, struct bulk_item *out)
{
	size_t n = b->data_len < max ? b->data_len : max;
	*out = (struct bulk_item){.kind = BULK_DATA, .data = b->data, .len = n};
	b->data += n;
	b->data_len -= n;
}

/* The next frame; false if there is none, and nothing more will come without waiting. */
static bool next_frame(struct bulk *b, struct bulk_item *out)
{
	struct frame f;
	struct err e = {0};
	int r = b->state >= BULK_ASKED ? frame_reader_next(&b->reader, &f, &e) : 0;
	if (r > 0)
		r = hear(b, &f, out, &e) < 0 ? -EPROTO : 1;
	if (r < 0)
		b->why = e;
	if (r < 0 || (r == 0 && b->why.errnum))
		b->failed = true;
	return r != 0 || b->failed;
}

static void want_read(struct bulk *b)
{
	if (!b->wants_read)
		b->alive_ms = uv_now(b->config.loop); /* the pause before was ours */
	b->wants_read = true;
	poll_update(b);
}

void bulk_next(struct bulk *b, size_t max, struct bulk_item *out)
{
	forget_item(b);
	*out = (struct bulk_item){.kind = BULK_WAIT};
	for (;;) {
		if (b->data_len > 0) {
			give_data(b, max, out);
			return;
		}
		if (b->ended && !b->end_told) {
			/* Of a tunnel half is left: how that ends is told, too. */
			b->end_told = b->flow == FLOW_BOTH;
			*out = (struct bulk_item){.kind = BULK_END, .total = b->total};
			return;
		}
		if (b->failed) {
			*out = (struct bulk_item){.kind = BULK_FAILED, .error = b->error, .why = &b->why};
			return;
		}
		if (!next_frame(b, out)) {
			want_read(b);
			return;
		}
		if (out->kind != BULK_WAIT)
			return;
	}
}

/* HELLO is heard at once, whether somebody asks for items or not. */
static void hear_hello(struct bulk *b)
{
	struct frame f;
	struct err e = {0};
	if (b->state == BULK_GREETING) {
		if (dial_hear_greeting(&b->reader, &e))
			say_hello(b);
		else if (e.errnum)
			b->why = e;
	}
	if (b->state != BULK_HELLO || b->why.errnum)
		return;
	int r = frame_reader_next(&b->reader, &f, &e);
	if (r == 0)
		return;
	if (r > 0 && f.type == FRAME_GOAWAY)
		r = hear_error(b, &f, &e);
	else if (r > 0 && f.type != FRAME_HELLO)
		r = err_set(&e, "bulk", EPROTO, "a frame of type %u before HELLO", f.type);
	else if (r > 0)
		r = frame_get_hello_prefix(&f, &e);
	if (r < 0)
		b->why = e;
	else
		b->state = BULK_ASKED;
	b->alive_ms = uv_now(b->config.loop);
}

static void on_readable(struct bulk *b)
{
	ssize_t n = frame_reader_fill(&b->reader, b->fd);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n < 0)
		err_sys(&b->why, "bulk", (int)-n, "cannot read from the agent");
	else if (n == 0)
		err_set(&b->why, "bulk", ECONNRESET, "the agent closed the connection");
	else
		b->alive_ms = uv_now(b->config.loop);
	if (b->state < BULK_ASKED)
		hear_hello(b);
	/* What has come waits until it is asked for. Before that HELLO alone is no reason to ask. */
	b->wants_read = b->state < BULK_ASKED && !b->why.errnum;
}

/* ---- time and life ---------------------------------------------------------------------------------- */

static void wake(struct bulk *b)
{
	b->wants_room = false;
	b->config.wake(b->config.arg);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct bulk *b = h->data;
	bool told = false;
	if (status < 0) {
		/* libuv has stopped the handle. What came before the error counts, and then recv(2) tells it.
		 */
		b->polled = 0;
		b->deaf = true;
		b->out_start = b->out_end = 0;
		events = UV_READABLE | UV_WRITABLE;
	}
	if (b->wants_read && (events & UV_READABLE)) {
		on_readable(b);
		told = !b->wants_read;
	}
	if (events & UV_WRITABLE) {
		out_write(b);
		told |= b->wants_room && b->out_end - b->out_start < BULK_QUEUE / 2;
	}
	poll_update(b);
	if (told)
		wake(b);
}

/* Whether it is the agent's turn: a slow client's pauses are not its fault. */
static bool awaits_agent(const struct bulk *b)
{
	/* Once it has answered, it may wait for more of ours; before, nothing is sent. */
	bool sending = b->state == BULK_ANSWERED && b->flow == FLOW_TO_AGENT && !b->end_sent;
	return b->out_start < b->out_end || (b->wants_read && !sending);
}

static void on_timer(uv_timer_t *t)
{
	struct bulk *b = t->data;
	uint64_t now = uv_now(b->config.loop), idle = now - b->alive_ms, limit = BULK_SILENCE_MS;
	if (b->state < BULK_ASKED)
		limit = BULK_HELLO_MS;
	else if (b->state == BULK_ASKED && b->flow != FLOW_NONE)
		limit = BULK_ANSWER_MS;
	else if (b->endless)
		return;
	if (idle < limit || !awaits_agent(b)) {
		uv_timer_start(t, on_timer, idle < limit ? limit - idle : limit, 0);
		return;
	}
	err_set(&b->why, "bulk", ETIMEDOUT, "the agent has been silent for %llu ms",
		(unsigned long long)idle);
	b->wants_read = false;
	b->out_start = b->out_end = 0;
	b->deaf = true;
	poll_update(b);
	wake(b);
}

static void on_closed(uv_handle_t *h)
{
	struct bulk *b = h->data;
	if (--b->handles > 0)
		return;
	forget_item(b);
	tenon__error__free_unpacked(b->error, NULL);
	free(b->joiner.buf);
	free(b->reader.buf);
	free(b->out);
	free(b);
}

void bulk_destroy(struct bulk *b)
{
	if (!b)
		return;
	uv_poll_stop(&b->poll);
	uv_close((uv_handle_t *)&b->poll, on_closed);
	uv_close((uv_handle_t *)&b->timer, on_closed);
	close_fd(&b->fd);
}

/* The request, as it will be sent once HELLO is out. */
static int put_request(struct bulk *b, const Tenon__BulkRequest *req, struct err *e)
{
	size_t len = tenon__bulk_request__get_packed_size(req);
	if (len > MESSAGE_MAX)
		return err_set(e, "bulk", EMSGSIZE, "the request takes %zu bytes; the limit is %d", len,
			       MESSAGE_MAX);
	size_t size = message_wire_size(len);
	uint8_t *p = out_extend(b, size);
	if (!p)
		return err_set(e, "bulk", ENOMEM, "no memory");
	tenon__bulk_request__pack(req, p + size - len);
	message_put_frames(p, len, STREAM, FRAME_REQ);
	return 0;
}

int bulk_create(struct bulk **out, const struct bulk_config *c, const Tenon__BulkRequest *req, struct err *e)
{
	_cleanup_close_ int fd = dial_unix(c->socket_path, e);
	if (fd < 0)
		return fd;
	struct bulk *b = calloc(1, sizeof *b);
	uint8_t *buf = malloc(READ_BUFFER);
	int r = b && buf ? put_request(b, req, e) : err_set(e, "bulk", ENOMEM, "no memory");
	if (r < 0) {
		if (b)
			free(b->out);
		free(b);
		free(buf);
		return r;
	}
	b->config = *c;
	b->config.socket_path = NULL;
	b->flow = flow_of(req);
	b->endless = b->flow == FLOW_BOTH || req->op_case == TENON__BULK_REQUEST__OP_WATCH;
	b->fd = steal_fd(&fd);
	frame_reader_init(&b->reader, buf, READ_BUFFER);
	uv_poll_init(c->loop, &b->poll, b->fd);
	uv_timer_init(c->loop, &b->timer);
	b->poll.data = b->timer.data = b;
	b->handles = 2;
	b->alive_ms = uv_now(c->loop);
	b->wants_read = true;
	uv_timer_start(&b->timer, on_timer, BULK_HELLO_MS, 0);
	if (c->port) {
		char line[32];
		int n = snprintf(line, sizeof line, "CONNECT %u\n", c->port);
		/* A fresh socket takes so little at once, here and in say_hello; if not, HELLO_MS tells. */
		send(b->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
		poll_update(b);
	} else {
		say_hello(b);
	}
	*out = b;
	return 0;
}
