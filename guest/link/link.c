#include "guest/link/link.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "guest/link/hello.h"
#include "guest/link/pack.h"
#include "guest/link/rpc.h"
#include "guest/log.h"

#define HELLO_DEADLINE (5 * NSEC_PER_SEC)
/* What serving one frame may queue: a Response, and a RESET to the stream it replaces. */
#define ROOM_TO_SERVE (MESSAGE_FROM_AGENT_MAX + 2 * PACK_SMALL_MAX)
/* What a partial write of a batch may leave. */
#define ROOM_TO_GATHER (3 * 65536)
#define FRAMES_PER_TURN 256

int link_init(struct link *l, struct err *e)
{
	l->scratch = memory_reserve(LINK_SCRATCH);
	uint8_t *buffers = memory_reserve((size_t)LINK_CONNS * CONN_MEMORY);
	if (!l->scratch || !buffers)
		return err_sys(e, "link", ENOMEM, "cannot reserve memory for connections");
	for (int i = 0; i < LINK_CONNS; i++) {
		struct conn *c = &l->conns[i];
		*c = (struct conn){.loop = l->loop, .source = {.fd = -1}, .fd = -1};
		c->memory = buffers + (size_t)i * CONN_MEMORY;
	}
	streams_init(&l->streams, l->execs);
	return 0;
}

static void drop(struct link *l, struct conn *c)
{
	if (c == l->main) {
		l->main = NULL;
		memset(l->waiters, 0, sizeof l->waiters);
		streams_lose(&l->streams);
	}
	conn_close(c);
}

/* GOAWAY as far as the socket takes it, and close. */
static void goaway(struct link *l, struct conn *c, const struct fault *f)
{
	log_line("link: closing a connection: %s", f->err.msg);
	pack_fault(&c->out, 0, FRAME_GOAWAY, f);
	conn_send(c, NULL, 0);
	drop(l, c);
}

static void goaway_malformed(struct link *l, struct conn *c, const struct err *e)
{
	struct fault f = {.code = TENON__CODE__CODE_PROTOCOL, .err = *e};
	goaway(l, c, &f);
}

/* ---- connections ---- */

static void greeting_deadline(struct timer *t)
{
	conn_close(container_of(t, struct conn, greeting_deadline));
}

/* A closed one; else the one that has been silent longest gives way: strangers must not keep the host out. */
static struct conn *find_place(struct link *l)
{
	struct conn *oldest = NULL;
	for (int i = 0; i < LINK_CONNS; i++) {
		struct conn *c = &l->conns[i];
		if (c->state == CONN_CLOSED)
			return c;
		if (c->state == CONN_GREETING && (!oldest || c->opened < oldest->opened))
			oldest = c;
	}
	conn_close(oldest); /* there is one: only one connection is main */
	return oldest;
}

void link_accept(struct link *l, int fd)
{
	if (conn_open(find_place(l), fd, greeting_deadline, clock_mono() + HELLO_DEADLINE) < 0)
		close(fd);
}

/* To a worker of its own: the agent's HELLO goes first, and what was read beyond the host's goes with it. */
static void hand_over(struct link *l, struct conn *c)
{
	struct fault f;
	if (conn_send(c, NULL, 0) < 0 || sendq_len(&c->out) > 0) {
		drop(l, c);
		return;
	}
	const struct frame_reader *r = &c->reader;
	if (bulk_pool_start(l->bulk, c->fd, r->buf + r->start, r->end - r->start, &f) < 0)
		goaway(l, c, &f);
	else
		drop(l, c);
}

static void greet(struct link *l, struct conn *c, const struct frame *frame)
{
	struct fault f;
	struct err e;
	int r = hello_receive(l, c, frame, &f, &e);
	if (r == -EPROTO) {
		goaway_malformed(l, c, &e);
		return;
	}
	if (r < 0) {
		goaway(l, c, &f);
		return;
	}
	if (r == HELLO_BULK) {
		hand_over(l, c);
		return;
	}
	if (l->main) {
		fault_code(&f, TENON__CODE__CODE_FENCED, "a host with a higher epoch has taken over");
		goaway(l, l->main, &f);
	}
	timer_clear(&c->greeting_deadline);
	c->state = CONN_MAIN;
	l->main = c;
}

/* ---- frames of the main connection ---- */

static int serve_request(struct link *l, struct conn *c, const struct frame *f, struct err *e)
{
	bool continues = c->joiner.type != 0;
	if (!continues && f->stream <= c->last_stream)
		return err_set(e, "frame", EPROTO, "REQ on stream %u after %u", f->stream, c->last_stream);
	struct message m;
	int r = message_join(&c->joiner, f, &m, e);
	if (r < 0)
		return -EPROTO;
	c->last_stream = f->stream;
	return r == 1 ? rpc_serve(l, &m, e) : 0;
}

static int serve_stream(struct link *l, struct conn *c, const struct frame *f, struct err *e)
{
	int row = streams_find(&l->streams, f->stream);
	if (row >= 0)
		return streams_receive(&l->streams, row, f, e);
	if (f->stream > c->last_stream)
		return err_set(e, "frame", EPROTO, "stream %u was never opened", f->stream);
	return 0; /* it has ended: crossed on the wire */
}

/* 0, -EPROTO with *e, or -ECONNRESET if the host takes its leave. */
static int serve_frame(struct link *l, struct conn *c, const struct frame *f, struct err *e)
{
	switch (f->type) {
	case FRAME_REQ:
		return serve_request(l, c, f, e);
	case FRAME_DATA:
	case FRAME_CREDIT:
	case FRAME_EOF:
	case FRAME_RESET:
		return serve_stream(l, c, f, e);
	case FRAME_PING:
		c->pong_due = true;
		memcpy(c->pong, f->payload, sizeof c->pong);
		return 0;
	case FRAME_PONG:
		return 0;
	case FRAME_GOAWAY:
		return -ECONNRESET;
	case FRAME_HELLO:
	case FRAME_RSP:
	case FRAME_GAP:
	case FRAME_EVENT:
		return err_set(e, "frame", EPROTO, "type %u is not the host's to send here", f->type);
	default:
		return 0; /* optional, of a generation to come */
	}
}

/* True if it stopped with more to read. */
static bool receive(struct link *l, struct conn *c)
{
	for (int i = 0; i < FRAMES_PER_TURN; i++) {
		if (sendq_room(&c->out) < ROOM_TO_SERVE)
			return false; /* until the host reads */
		struct frame f;
		struct err e;
		int r = conn_next(c, &f, &e);
		if (r == 0)
			return false;
		if (r > 0 && c->state == CONN_GREETING) {
			greet(l, c, &f);
			r = 0;
		} else if (r > 0) {
			r = serve_frame(l, c, &f, &e);
		}
		if (r == -EPROTO)
			goaway_malformed(l, c, &e);
		else if (r < 0)
			drop(l, c);
		if (c->state == CONN_CLOSED)
			return false;
	}
	return true;
}

static bool awaits_more(const struct link *l, const struct conn *c)
{
	return sendq_len(&c->out) == c->late && streams_awaits_more(&l->streams);
}

static void transmit(struct link *l, struct conn *c)
{
	bool more = true;
	while (more && c->writable && c->state != CONN_CLOSED) {
		struct streams_batch batch = {.n = 0};
		if (c->pong_due && sendq_room(&c->out) > FRAME_SMALL_MAX) {
			uint8_t pong[FRAME_SMALL_MAX];
			sendq_put(&c->out, pong, frame_put_ping(pong, FRAME_PONG, c->pong));
			c->pong_due = false;
		}
		if (c == l->main) {
			streams_put_control(&l->streams, &c->out);
			if (sendq_room(&c->out) >= ROOM_TO_GATHER)
				streams_gather(&l->streams, &batch);
		}
		more = batch.n > 0;
		if (!more && (sendq_len(&c->out) == 0 || awaits_more(l, c)))
			return;
		if (conn_send(c, batch.pieces, batch.n) < 0)
			drop(l, c);
		else if (more)
			streams_sent(&l->streams, &batch);
	}
}

bool link_turn(struct link *l)
{
	bool busy = false;
	for (int i = 0; i < LINK_CONNS; i++) {
		struct conn *c = &l->conns[i];
		if (c->state == CONN_CLOSED)
			continue;
		/* What has waited long enough does not wait for what comes now. */
		if (!streams_awaits_more(&l->streams))
			c->late = 0;
		bool more = !l->paused && receive(l, c), was_full = sendq_room(&c->out) < ROOM_TO_SERVE;
		if (c->state != CONN_CLOSED)
			transmit(l, c);
		/* Room that has come back lets frames in that were read before: no event will announce them.
		 */
		busy |= more || (was_full && c->state != CONN_CLOSED && sendq_room(&c->out) >= ROOM_TO_SERVE);
	}
	return busy;
}

bool link_idle(const struct link *l)
{
	return !l->main || (sendq_len(&l->main->out) == 0 && sched_empty(&l->streams.control));
}

static void answer_configure(struct link *l, uint32_t stream)
{
	Tenon__ConfigureResult result = TENON__CONFIGURE_RESULT__INIT;
	result.boot = &l->identity->times;
	Tenon__Response r = TENON__RESPONSE__INIT;
	r.result_case = TENON__RESPONSE__RESULT_CONFIGURE;
	r.configure = &result;
	pack_message(&l->main->out, stream, FRAME_RSP, &r.base);
}

void link_answer(struct link *l, enum link_wait wait, const struct fault *f)
{
	for (int i = 0; i < LINK_WAITERS; i++) {
		uint32_t stream = l->waiters[wait][i];
		l->waiters[wait][i] = 0;
		if (stream == 0)
			continue;
		if (f)
			pack_response_fault(&l->main->out, stream, f);
		else if (wait == LINK_CONFIGURE)
			answer_configure(l, stream);
		else
			pack_done(&l->main->out, stream);
	}
}

void link_tell(struct link *l, const Tenon__Event *event)
{
	if (l->main)
		pack_message(&l->main->out, 0, FRAME_EVENT, &event->base);
}
