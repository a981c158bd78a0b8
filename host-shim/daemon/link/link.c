#include "host-shim/daemon/link/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "host-shim/daemon/link/dial.h"
#include "host-shim/daemon/link/unpack.h"
#include "proto/cleanup.h"

#define READ_BUFFER (256u * 1024)
#define READ_BUFFER_KEEP 4096u /* of it stays resident on an idle link */
#define STREAM_BUCKETS 128u
#define STREAM_LAST 0x7fffffffu

enum link_state { LINK_GREETING, LINK_HELLO, LINK_UP, LINK_DOWN };

LIST_HEAD(stream_list, link_stream);

struct link {
	struct link_config config;
	enum link_state state;
	int fd;
	uint64_t agent_epoch;

	uv_poll_t poll;
	uv_timer_t timer;
	uv_prepare_t flush; /* active while there is something to write: one write(2) per turn of the loop */
	unsigned handles;   /* not yet closed */
	bool polling_write;

	struct frame_reader reader;
	struct message_joiner joiner;
	uint64_t heard_ms;  /* uv_now of the last bytes */
	uint64_t pinged_ms; /* 0: no PING is out */
	bool pong_due;
	uint8_t pong[8];

	uint8_t *out;
	size_t out_start, out_end, out_cap;
	bool out_high;   /* was above LINK_QUEUE_LOW */
	struct err doom; /* found while sending, told from the loop */

	uint32_t last_stream;
	struct stream_list streams[STREAM_BUCKETS];
};

static void down(struct link *l, const struct err *why);

/* ---- sending ---------------------------------------------------------------------------------------- */

static uint8_t *out_extend(struct link *l, size_t n)
{
	if (l->out_cap - l->out_end < n && l->out_start > 0) {
		memmove(l->out, l->out + l->out_start, l->out_end - l->out_start);
		l->out_end -= l->out_start;
		l->out_start = 0;
	}
	if (l->out_cap - l->out_end < n) {
		size_t cap = l->out_cap ? l->out_cap : 4096;
		while (cap - l->out_end < n)
			cap *= 2;
		uint8_t *grown = cap <= 2 * LINK_QUEUE_MAX ? realloc(l->out, cap) : NULL;
		if (!grown) {
			if (!l->doom.errnum)
				err_set(&l->doom, "link", ENOBUFS,
					"the agent reads too slowly: %zu bytes wait for it",
					l->out_end - l->out_start);
			return NULL;
		}
		l->out = grown;
		l->out_cap = cap;
	}
	uint8_t *p = l->out + l->out_end;
	l->out_end += n;
	if (l->out_end - l->out_start > LINK_QUEUE_MAX && !l->doom.errnum)
		err_set(&l->doom, "link", ENOBUFS, "the agent reads too slowly: over %u bytes wait for it",
			LINK_QUEUE_MAX);
	return p;
}

static void out_schedule(struct link *l);

static void out_put(struct link *l, const void *data, size_t len)
{
	if (l->state == LINK_DOWN)
		return;
	uint8_t *p = out_extend(l, len);
	if (p)
		memcpy(p, data, len);
	if (l->out_end - l->out_start > LINK_QUEUE_LOW)
		l->out_high = true;
	out_schedule(l);
}

static void on_poll(uv_poll_t *h, int status, int events);

static void poll_for(struct link *l, bool writing)
{
	if (l->polling_write == writing)
		return;
	l->polling_write = writing;
	uv_poll_start(&l->poll, UV_READABLE | (writing ? UV_WRITABLE : 0), on_poll);
}

/* Writes what the socket takes; false if the link went down over it. */
static bool out_write(struct link *l)
{
	struct err e = l->doom;
	if (l->pong_due) {
		uint8_t frame[FRAME_SMALL_MAX];
		l->pong_due = false;
		out_put(l, frame, frame_put_ping(frame, FRAME_PONG, l->pong));
	}
	while (!e.errnum && l->out_start < l->out_end) {
		ssize_t n = send(l->fd, l->out + l->out_start, l->out_end - l->out_start,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			l->out_start += (size_t)n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			err_sys(&e, "link", errno, "cannot write to the agent");
	}
	if (e.errnum) {
		down(l, &e);
		return false;
	}
	poll_for(l, l->out_start < l->out_end);
	if (l->out_start == l->out_end) {
		l->out_start = l->out_end = 0;
		if (l->out_cap > LINK_QUEUE_LOW) {
			free(l->out);
			l->out = NULL;
			l->out_cap = 0;
		}
	}
	if (l->out_high && l->out_end - l->out_start < LINK_QUEUE_LOW) {
		l->out_high = false;
		if (l->config.drained)
			l->config.drained(l->config.arg);
	}
	return l->state != LINK_DOWN;
}

static void on_flush(uv_prepare_t *h)
{
	struct link *l = h->data;
	uv_prepare_stop(h);
	out_write(l);
}

static void out_schedule(struct link *l)
{
	if (!l->polling_write || l->doom.errnum)
		uv_prepare_start(&l->flush, on_flush);
}

static void send_error(struct link *l, uint32_t stream, enum frame_type type, Tenon__Code code,
		       const char *text)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_ERROR_MAX];
	Tenon__Error error = TENON__ERROR__INIT;
	error.code = code;
	error.message = (char *)text;
	size_t len = tenon__error__get_packed_size(&error);
	if (len > FRAME_ERROR_MAX)
		len = 0;
	else
		tenon__error__pack(&error, frame + FRAME_HEADER_SIZE);
	frame_put_header(frame, &(struct frame){.len = (uint32_t)len, .stream = stream, .type = type});
	out_put(l, frame, FRAME_HEADER_SIZE + len);
}

/* ---- streams ----------------------------------------------------------------------------------------- */

static struct stream_list *bucket(struct link *l, uint32_t id)
{
	return &l->streams[(id >> 1) % STREAM_BUCKETS];
}

static struct link_stream *stream_find(struct link *l, uint32_t id)
{
	struct link_stream *s;
	LIST_FOREACH (s, bucket(l, id), hash)
		if (s->id == id)
			return s;
	return NULL;
}

static void stream_forget(struct link_stream *s)
{
	LIST_REMOVE(s, hash);
	s->id = 0;
}

static void streams_lost(struct link *l, const struct err *why)
{
	for (unsigned i = 0; i < STREAM_BUCKETS; i++) {
		struct link_stream *s;
		while ((s = LIST_FIRST(&l->streams[i]))) {
			stream_forget(s);
			s->lost(s, why);
		}
	}
}

int link_open(struct link *l, struct link_stream *s, const Tenon__Request *req, struct err *e)
{
	if (l->state != LINK_UP)
		return err_set(e, "link", ENOTCONN, "no connection to the agent");
	size_t len = tenon__request__get_packed_size(req);
	if (len > MESSAGE_MAX)
		return err_set(e, "link", EMSGSIZE, "the request takes %zu bytes; the limit is %d", len,
			       MESSAGE_MAX);
	if (l->last_stream >= STREAM_LAST - 1) {
		err_set(&l->doom, "link", EOVERFLOW, "stream numbers are used up: a new connection is due");
		out_schedule(l);
		return err_set(e, "link", ENOTCONN, "no connection to the agent");
	}
	size_t size = message_wire_size(len);
	uint8_t *p = out_extend(l, size);
	if (!p) {
		out_schedule(l);
		return err_set(e, "link", ENOBUFS, "the agent reads too slowly");
	}
	s->id = l->last_stream = l->last_stream ? l->last_stream + 2 : 1;
	s->answered = false;
	LIST_INSERT_HEAD(bucket(l, s->id), s, hash);
	tenon__request__pack(req, p + size - len);
	message_put_frames(p, len, s->id, FRAME_REQ);
	out_schedule(l);
	return 0;
}

void link_send(struct link *l, const uint8_t *frame, size_t len)
{
	out_put(l, frame, len);
}

void link_send_data(struct link *l, struct link_stream *s, enum frame_channel c, uint64_t offset,
		    const void *data, size_t len)
{
	uint8_t head[FRAME_DATA_HEAD];
	out_put(l, head, frame_put_data_head(head, s->id, c, offset, len));
	out_put(l, data, len);
}

size_t link_queued(const struct link *l)
{
	return l->out_end - l->out_start;
}

void link_stream_close(struct link *l, struct link_stream *s, bool reset)
{
	if (s->id == 0)
		return;
	if (reset)
		send_error(l, s->id, FRAME_RESET, TENON__CODE__CODE_DETACHED, "detached");
	stream_forget(s);
}

/* ---- receiving --------------------------------------------------------------------------------------- */

static void hear_response(struct link_stream *s, const struct message *m, struct err *e)
{
	if (s->answered) {
		err_set(e, "link", EPROTO, "a second response on stream %u", m->stream);
		return;
	}
	Tenon__Response *rsp = (Tenon__Response *)unpack_bounded(&tenon__response__descriptor, m->data,
								 m->len, LINK_UNPACK_MAX, e);
	if (!rsp)
		return;
	if (!rsp->error && rsp->result_case == TENON__RESPONSE__RESULT__NOT_SET) {
		err_set(e, "link", EPROTO, "a response without a result");
	} else {
		s->answered = true;
		s->response(s, rsp, e);
	}
	tenon__response__free_unpacked(rsp, NULL);
}

static void hear_event(struct link_stream *s, const struct message *m, struct err *e)
{
	Tenon__Event *event = (Tenon__Event *)unpack_bounded(&tenon__event__descriptor, m->data, m->len,
							     LINK_UNPACK_MAX, e);
	if (!event)
		return;
	if (s->event)
		s->event(s, event, e);
	tenon__event__free_unpacked(event, NULL);
}

static void hear_message(struct link *l, const struct frame *f, struct err *e)
{
	struct message m;
	if (!l->joiner.buf && (f->flags & FRAME_MORE)) {
		uint8_t *buf = malloc(MESSAGE_FROM_AGENT_MAX);
		if (!buf) {
			err_set(e, "link", ENOMEM, "no memory for a long message");
			return;
		}
		message_joiner_init(&l->joiner, buf, MESSAGE_FROM_AGENT_MAX);
	}
	if (message_join(&l->joiner, f, &m, e) <= 0)
		return;
	struct link_stream *s = stream_find(l, m.stream);
	if (s && m.type == FRAME_RSP)
		hear_response(s, &m, e);
	else if (s)
		hear_event(s, &m, e);
	if (l->joiner.buf && l->joiner.type == 0) {
		free(l->joiner.buf);
		l->joiner = (struct message_joiner){0};
	}
}

/* What the body of a RESET or GOAWAY says, as an err. */
static struct err heard_error(const struct frame *f, const char *stage)
{
	struct err why = {0}, ignored = {0};
	Tenon__Error *m = (Tenon__Error *)unpack_bounded(&tenon__error__descriptor, f->payload, f->len,
							 LINK_UNPACK_MAX, &ignored);
	bool fenced = m && m->code == TENON__CODE__CODE_FENCED;
	err_set(&why, stage, fenced ? ESTALE : ECONNRESET, "the agent says: %s (code %d)",
		m ? m->message : "nothing legible", m ? (int)m->code : -1);
	tenon__error__free_unpacked(m, NULL);
	return why;
}

static void hear_hello(struct link *l, const struct frame *f, struct err *e)
{
	if (frame_get_hello_prefix(f, e) < 0)
		return;
	Tenon__Hello *hello =
		(Tenon__Hello *)unpack_bounded(&tenon__hello__descriptor, f->payload + FRAME_HELLO_PREFIX,
					       f->len - FRAME_HELLO_PREFIX, LINK_UNPACK_MAX, e);
	if (!hello)
		return;
	l->agent_epoch = hello->host_epoch;
	if (hello->boot_id.len != 16) {
		err_set(e, "hello", EPROTO, "a boot id of %zu bytes", hello->boot_id.len);
	} else if (hello->host_epoch > l->config.host_epoch) {
		err_set(e, "hello", ESTALE, "a host with a higher epoch has been here");
	} else {
		l->state = LINK_UP;
		uv_timer_stop(&l->timer);
		uv_timer_start(&l->timer, l->timer.timer_cb, LINK_PING_MS, 0);
		l->config.up(l->config.arg, hello);
	}
	tenon__hello__free_unpacked(hello, NULL);
}

static bool direction_holds(const struct frame *f)
{
	bool stdin_channel = frame_channel(f) == CHANNEL_STDIN;
	switch (f->type) {
	case FRAME_DATA:
	case FRAME_GAP:
		return !stdin_channel;
	case FRAME_CREDIT:
		return stdin_channel;
	default:
		return true; /* EOF: of output, or of a stdin that is not taken any more */
	}
}

static void hear_stream_frame(struct link *l, const struct frame *f, struct err *e)
{
	if (f->stream > l->last_stream) {
		err_set(e, "link", EPROTO, "a frame on stream %u, which was never opened", f->stream);
		return;
	}
	if (f->type == FRAME_RSP || f->type == FRAME_EVENT) {
		hear_message(l, f, e);
		return;
	}
	struct link_stream *s = stream_find(l, f->stream);
	if (f->type == FRAME_RESET) {
		if (!s)
			return;
		struct err why = heard_error(f, "reset");
		stream_forget(s);
		s->lost(s, &why);
		return;
	}
	if (!direction_holds(f))
		err_set(e, "link", EPROTO, "a frame of type %u for channel %d from the agent", f->type,
			frame_channel(f));
	else if (s && (!s->answered || !s->frame))
		err_set(e, "link", EPROTO, "a frame of type %u on a stream without an execution", f->type);
	else if (s)
		s->frame(s, f, e);
}

/* One frame. What is wrong with it comes back in *e. */
static void hear(struct link *l, const struct frame *f, struct err *e)
{
	if (f->type == FRAME_GOAWAY) {
		*e = heard_error(f, "goaway");
		return;
	}
	if (l->state == LINK_HELLO) {
		if (f->type == FRAME_HELLO)
			hear_hello(l, f, e);
		else
			err_set(e, "hello", EPROTO, "a frame of type %u before HELLO", f->type);
		return;
	}
	switch (f->type) {
	case FRAME_RSP:
	case FRAME_DATA:
	case FRAME_CREDIT:
	case FRAME_GAP:
	case FRAME_EOF:
	case FRAME_RESET:
	case FRAME_EVENT:
		hear_stream_frame(l, f, e);
		break;
	case FRAME_PING:
		memcpy(l->pong, f->payload, sizeof l->pong);
		l->pong_due = true;
		out_schedule(l);
		break;
	case FRAME_PONG:
		break;
	case FRAME_HELLO:
	case FRAME_REQ:
		err_set(e, "link", EPROTO, "a frame of type %u from the agent", f->type);
		break;
	default:
		break; /* unknown and optional: frame_decode has seen to it */
	}
}

static void hear_frames(struct link *l)
{
	struct frame f;
	struct err e = {0};
	while (l->state != LINK_DOWN && !e.errnum && frame_reader_next(&l->reader, &f, &e) > 0)
		hear(l, &f, &e);
	if (l->state == LINK_DOWN || !e.errnum)
		return;
	if (e.errnum == EPROTO || e.errnum == EMSGSIZE)
		send_error(l, 0, FRAME_GOAWAY, TENON__CODE__CODE_PROTOCOL, e.msg);
	down(l, &e);
}

static void say_hello(struct link *l)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_HELLO_MAX], *body = frame + FRAME_HEADER_SIZE;
	Tenon__Hello hello = TENON__HELLO__INIT;
	hello.role = TENON__ROLE__ROLE_MAIN;
	hello.host_epoch = l->config.host_epoch;
	hello.features = WIRE_FEATURE_ANSWER_LATE | WIRE_FEATURE_CREDIT_WANTED;
	hello.version = (char *)"tenond";
	frame_put_hello_prefix(body);
	size_t len = FRAME_HELLO_PREFIX + tenon__hello__pack(&hello, body + FRAME_HELLO_PREFIX);
	frame_put_header(frame, &(struct frame){.len = (uint32_t)len, .type = FRAME_HELLO});
	out_put(l, frame, FRAME_HEADER_SIZE + len);
	l->state = LINK_HELLO;
}

static void on_readable(struct link *l)
{
	struct err e = {0};
	ssize_t n = frame_reader_fill(&l->reader, l->fd);
	if (n == -EAGAIN)
		return;
	if (n < 0)
		err_sys(&e, "link", (int)-n, "cannot read from the agent");
	else if (n == 0)
		err_set(&e, "link", ECONNRESET,
			l->state == LINK_UP ? "the agent closed the connection" : "the agent is not ready");
	l->heard_ms = uv_now(l->config.loop);
	l->pinged_ms = 0;
	if (!e.errnum && l->state == LINK_GREETING) {
		if (dial_hear_greeting(&l->reader, &e))
			say_hello(l);
		else if (!e.errnum)
			return;
	}
	if (e.errnum)
		down(l, &e);
	else
		hear_frames(l);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct link *l = h->data;
	if (status <
	    0) { /* POLLERR; libuv calls it EBADF. What came before it, such as GOAWAY, still counts */
		struct err e;
		on_readable(l);
		err_set(&e, "link", ECONNRESET, "the connection broke");
		down(l, &e);
		return;
	}
	if (events & UV_READABLE)
		on_readable(l);
	if ((events & UV_WRITABLE) && l->state != LINK_DOWN)
		out_write(l);
}

/* ---- time --------------------------------------------------------------------------------------------- */

/* ms from now, lengthened to the next of the moments that all links have in common. */
static uint64_t to_step(uint64_t now, uint64_t ms)
{
	uint64_t over = (now + ms) % LINK_PING_STEP_MS;
	return over ? ms + LINK_PING_STEP_MS - over : ms;
}

static void on_timer(uv_timer_t *h)
{
	struct link *l = h->data;
	struct err e;
	if (l->state != LINK_UP) {
		err_set(&e, "link", ETIMEDOUT, "no HELLO from the agent within %d ms", LINK_HELLO_MS);
		down(l, &e);
		return;
	}
	uint64_t now = uv_now(l->config.loop), since = l->pinged_ms ? l->pinged_ms : l->heard_ms;
	uint64_t patience = l->pinged_ms ? LINK_SILENCE_MS : LINK_PING_MS;
	if (now - since < patience) {
		uv_timer_start(h, on_timer, to_step(now, patience - (now - since)), 0);
		return;
	}
	if (l->pinged_ms) {
		err_set(&e, "link", ETIMEDOUT, "the agent has been silent for %d ms",
			LINK_PING_MS + LINK_SILENCE_MS);
		down(l, &e);
		return;
	}
	/* Nothing came for a while: give the pages of a buffer that was once busy back. */
	if (l->reader.end == l->reader.start)
		madvise(l->reader.buf + READ_BUFFER_KEEP, READ_BUFFER - READ_BUFFER_KEEP, MADV_DONTNEED);
	uint8_t frame[FRAME_SMALL_MAX], body[8];
	wire_put_u64(body, now);
	out_put(l, frame, frame_put_ping(frame, FRAME_PING, body));
	l->pinged_ms = now;
	uv_timer_start(h, on_timer, LINK_SILENCE_MS, 0);
}

/* ---- life --------------------------------------------------------------------------------------------- */

static void stop(struct link *l)
{
	l->state = LINK_DOWN;
	uv_poll_stop(&l->poll);
	uv_timer_stop(&l->timer);
	uv_prepare_stop(&l->flush);
}

static void down(struct link *l, const struct err *why)
{
	if (l->state == LINK_DOWN)
		return;
	/* A last word, such as GOAWAY, if the socket takes it. */
	if (l->out_start < l->out_end)
		send(l->fd, l->out + l->out_start, l->out_end - l->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);
	stop(l);
	struct err copy = *why;
	streams_lost(l, &copy);
	l->config.down(l->config.arg, &copy);
}

static void on_closed(uv_handle_t *h)
{
	struct link *l = h->data;
	if (--l->handles > 0)
		return;
	munmap(l->reader.buf, READ_BUFFER);
	free(l->joiner.buf);
	free(l->out);
	free(l);
}

void link_destroy(struct link *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < STREAM_BUCKETS; i++)
		while (!LIST_EMPTY(&l->streams[i]))
			stream_forget(LIST_FIRST(&l->streams[i]));
	stop(l);
	uv_close((uv_handle_t *)&l->poll, on_closed);
	uv_close((uv_handle_t *)&l->timer, on_closed);
	uv_close((uv_handle_t *)&l->flush, on_closed);
	close_fd(&l->fd);
}

int link_create(struct link **out, const struct link_config *c, struct err *e)
{
	_cleanup_close_ int fd = dial_unix(c->socket_path, e);
	if (fd < 0)
		return fd;
	struct link *l = calloc(1, sizeof *l);
	/* Pages of a mapping cost nothing until a busy agent fills them. */
	void *buf = mmap(NULL, READ_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!l || buf == MAP_FAILED) {
		free(l);
		if (buf != MAP_FAILED)
			munmap(buf, READ_BUFFER);
		return err_set(e, "link", ENOMEM, "no memory for a link");
	}
	l->config = *c;
	l->config.socket_path = NULL;
	l->fd = steal_fd(&fd);
	frame_reader_init(&l->reader, buf, READ_BUFFER);
	uv_poll_init(c->loop, &l->poll, l->fd);
	uv_timer_init(c->loop, &l->timer);
	uv_prepare_init(c->loop, &l->flush);
	l->poll.data = l->timer.data = l->flush.data = l;
	l->handles = 3;
	l->heard_ms = uv_now(c->loop);
	uv_poll_start(&l->poll, UV_READABLE, on_poll);
	uv_timer_start(&l->timer, on_timer, LINK_HELLO_MS, 0);

	if (c->port) {
		char line[32];
		l->state = LINK_GREETING;
		out_put(l, line, (size_t)snprintf(line, sizeof line, "CONNECT %u\n", c->port));
	} else {
		say_hello(l);
	}
	*out = l;
	return 0;
}

uint64_t link_agent_epoch(const struct link *l)
{
	return l->agent_epoch;
}
