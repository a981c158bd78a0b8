#include "guest/link/streams.h"

#include <errno.h>

#include "guest/link/pack.h"

#define BATCH_BYTES 65536
#define LATE (10 * NSEC_PER_MSEC) /* at most that what may wait for what comes next */

static struct exec_row *row_of(const struct streams *s, int row)
{
	return exec_table_row(&s->execs->table, row);
}

static bool input_due(const struct exec_input *in)
{
	return exec_input_credit_due(in) || (in->closed && !in->closed_told);
}

/* Frees a row that is over, once nobody waits for a word about it. */
static void end_stream(struct streams *s, int row)
{
	struct stream *st = &s->of_row[row];
	bool over = st->over;
	*st = (struct stream){0};
	if (over)
		execs_release(s->execs, row);
}

static void push(struct streams *s, int row)
{
	if (s->of_row[row].due)
		sched_push(&s->control, row);
	sched_push(&s->data, row);
}

/* The start is mostly told to somebody who waits for the end, and an output mostly ends a moment before its
 * process is reaped: what can wait a little goes in one packet with what comes next, and each packet wakes
 * the host, and the guest when it was taken. */
static bool may_wait(const struct streams *s, int row, unsigned news)
{
	const struct exec_row *r = row_of(s, row);
	if (news == EXEC_NEWS_STARTED)
		return s->of_row[row].patient;
	return news == EXEC_NEWS_OUTPUT && r->pid != 0 && !exec_output_has_bytes(&r->out[0]) &&
	       !exec_output_has_bytes(&r->out[1]);
}

void streams_await_more(struct streams *s)
{
	if (!streams_awaits_more(s))
		timer_set(s->execs->loop, &s->hurry, clock_mono() + LATE);
}

static void push_late(struct streams *s, int row)
{
	streams_await_more(s);
	sched_push(&s->late, row);
}

static void hurry(struct timer *t)
{
	struct streams *s = container_of(t, struct streams, hurry);
	for (int row; (row = sched_pop(&s->late)) >= 0;)
		push(s, row);
}

static void on_news(struct exec_watch *w, int row, unsigned news)
{
	struct streams *s = container_of(w, struct streams, watch);
	struct stream *st = &s->of_row[row];
	if (news & EXEC_NEWS_INPUT && !input_due(&row_of(s, row)->in))
		news &= ~(unsigned)EXEC_NEWS_INPUT;
	if (st->id != 0) {
		st->due |= news & (EXEC_NEWS_STARTED | EXEC_NEWS_FAILED | EXEC_NEWS_EXIT | EXEC_NEWS_INPUT);
		if (may_wait(s, row, news))
			push_late(s, row);
		else if (news & ~(unsigned)EXEC_NEWS_FREE)
			push(s, row);
	}
	if (news & EXEC_NEWS_FREE) {
		st->over = true;
		if (!(st->due & EXEC_NEWS_FAILED))
			end_stream(s, row);
	}
}

void streams_init(struct streams *s, struct execs *execs)
{
	*s = (struct streams){.watch = {on_news}, .execs = execs};
	sched_init(&s->control);
	sched_init(&s->data);
	sched_init(&s->late);
	timer_init(&s->hurry, hurry);
}

void streams_take(struct streams *s, int row, uint32_t id, bool fresh, struct sendq *q)
{
	struct stream *st = &s->of_row[row];
	if (st->id != 0) {
		struct fault f;
		fault_code(&f, TENON__CODE__CODE_DETACHED, "the execution is served on stream %u now", id);
		pack_fault(q, st->id, FRAME_RESET, &f);
	}
	*st = (struct stream){.id = id, .fresh = fresh};
	const struct exec_row *r = row_of(s, row);
	if (r->state == EXEC_EXITED || r->state == EXEC_ACKED) {
		st->due = EXEC_NEWS_EXIT;
		sched_push(&s->control, row);
	}
}

void streams_answer(struct streams *s, int row, struct sendq *q)
{
	struct stream *st = &s->of_row[row];
	struct packed_exec p;
	exec_input_attach(&row_of(s, row)->in);
	pack_exec(&p, row_of(s, row), st->fresh);
	Tenon__Response r = TENON__RESPONSE__INIT;
	r.result_case = TENON__RESPONSE__RESULT_EXEC;
	r.exec = &p.state;
	pack_message(q, st->id, FRAME_RSP, &r.base);
	st->answered = true;
	sched_push(&s->data, row);
}

int streams_find(const struct streams *s, uint32_t id)
{
	for (int i = 0; i < EXEC_ROWS; i++)
		if (s->of_row[i].id == id)
			return i;
	return -1;
}

static int receive_input(struct streams *s, int row, const struct frame *f, struct err *e)
{
	int r;
	if (frame_channel(f) != CHANNEL_STDIN)
		return err_set(e, "frame", EPROTO, "type %u on channel %d from the host", f->type,
			       frame_channel(f));
	if (f->type == FRAME_EOF) {
		r = execs_input_end(s->execs, row, frame_offset(f));
	} else {
		size_t n;
		const uint8_t *bytes = frame_data(f, &n);
		r = execs_input(s->execs, row, frame_offset(f), bytes, n);
	}
	return r < 0 ? err_set(e, "frame", EPROTO,
			       "stdin does not follow on, or passes its credit or its end")
		     : 0;
}

int streams_receive(struct streams *s, int row, const struct frame *f, struct err *e)
{
	switch (f->type) {
	case FRAME_DATA:
	case FRAME_EOF:
		return receive_input(s, row, f, e);
	case FRAME_CREDIT:
		if (frame_channel(f) == CHANNEL_STDIN)
			return err_set(e, "frame", EPROTO, "CREDIT on stdin from the host");
		if (execs_credit(s->execs, row, frame_channel(f), frame_pair(f).a, frame_pair(f).b) < 0)
			return err_set(e, "frame", EPROTO, "CREDIT acknowledges what was never written");
		return 0;
	default: /* RESET */
		end_stream(s, row);
		if (row_of(s, row)->state != EXEC_FREE)
			execs_detach(s->execs, row);
		return 0;
	}
}

void streams_lose(struct streams *s)
{
	for (int i = 0; i < EXEC_ROWS; i++) {
		if (s->of_row[i].id == 0)
			continue;
		end_stream(s, i);
		if (row_of(s, i)->state != EXEC_FREE)
			execs_detach(s->execs, i);
	}
	sched_init(&s->control);
	sched_init(&s->data);
	sched_init(&s->late);
	timer_clear(&s->hurry);
}

static void put_exit(uint32_t id, const struct exec_row *r, struct sendq *q)
{
	Tenon__ExitRecord exit;
	Tenon__Rusage rusage;
	pack_exit(&exit, &rusage, r);
	Tenon__Event event = TENON__EVENT__INIT;
	event.kind_case = TENON__EVENT__KIND_EXIT;
	event.exit = &exit;
	pack_message(q, id, FRAME_EVENT, &event.base);
}

static void put_input(uint32_t id, struct exec_input *in, struct sendq *q)
{
	uint8_t frame[FRAME_SMALL_MAX];
	if (in->closed && !in->closed_told) {
		in->closed_told = true;
		sendq_put(q, frame, frame_put_eof(frame, id, CHANNEL_STDIN, in->ring.end));
	} else if (exec_input_credit_due(in)) {
		uint64_t acked, limit;
		exec_input_credit(in, &acked, &limit);
		sendq_put(q, frame, frame_put_credit(frame, id, CHANNEL_STDIN, acked, limit));
	}
}

void streams_put_control(struct streams *s, struct sendq *q)
{
	while (sendq_room(q) >= 3 * PACK_SMALL_MAX) {
		int row = sched_pop(&s->control);
		if (row < 0)
			return;
		struct stream *st = &s->of_row[row];
		unsigned due = st->due;
		if (st->id == 0)
			continue;
		if (due & EXEC_NEWS_FAILED) {
			pack_response_fault(q, st->id, execs_failure(s->execs, row));
			end_stream(s, row);
			continue;
		}
		if (due & EXEC_NEWS_STARTED)
			streams_answer(s, row, q);
		st->due = st->answered ? 0 : due & EXEC_NEWS_INPUT; /* kept for after the answer */
		if (due & EXEC_NEWS_EXIT)
			put_exit(st->id, row_of(s, row), q);
		if (due & EXEC_NEWS_INPUT && st->answered)
			put_input(st->id, &row_of(s, row)->in, q);
	}
}

/* The next chunk of a row: its two outputs in turn. */
static struct exec_chunk next_chunk(struct streams *s, int row, enum frame_channel *c)
{
	struct stream *st = &s->of_row[row];
	struct exec_chunk chunk = {0};
	for (int tries = 0; tries < 2 && chunk.kind == CHUNK_NONE; tries++) {
		*c = st->stderr_turn ? CHANNEL_STDERR : CHANNEL_STDOUT;
		chunk = exec_output_next(&row_of(s, row)->out[st->stderr_turn]);
		st->stderr_turn = !st->stderr_turn;
	}
	return chunk;
}

static void add_frame(struct streams_batch *b, struct streams *s, int row, enum frame_channel c,
		      struct exec_chunk chunk)
{
	uint32_t id = s->of_row[row].id;
	uint8_t *head = b->heads[b->frames++];
	size_t head_len, body_len = 0;
	if (chunk.kind == CHUNK_GAP) {
		head_len = frame_put_gap(head, id, c, chunk.from, chunk.to);
	} else if (chunk.kind == CHUNK_EOF) {
		head_len = frame_put_eof(head, id, c, chunk.to);
		b->ended[b->n_ended++] = row;
	} else {
		body_len = (size_t)(chunk.to - chunk.from);
		head_len = frame_put_data_head(head, id, c, chunk.from, body_len);
		if (s->marks_wanted_credit &&
		    exec_output_asks_credit(&row_of(s, row)->out[c - CHANNEL_STDOUT]))
			frame_add_flag(head, FRAME_CREDIT_WANTED);
	}
	b->pieces[b->n++] = (struct iovec){head, head_len};
	if (body_len > 0)
		b->n += ring_span(exec_table_window(&s->execs->table, row, c),
				  exec_table_ring(&s->execs->table, row, c), chunk.from, chunk.to,
				  &b->pieces[b->n]);
	b->bytes += head_len + body_len;
}

void streams_gather(struct streams *s, struct streams_batch *b)
{
	b->frames = b->n = b->n_ended = 0;
	b->bytes = 0;
	while (b->frames < STREAMS_BATCH && b->bytes < BATCH_BYTES) {
		int row = sched_pop(&s->data);
		if (row < 0)
			return;
		if (s->of_row[row].id == 0 || !s->of_row[row].answered)
			continue; /* comes back with the answer or an Attach */
		enum frame_channel c;
		struct exec_chunk chunk = next_chunk(s, row, &c);
		if (chunk.kind == CHUNK_NONE)
			continue; /* comes back with new bytes or credit */
		add_frame(b, s, row, c, chunk);
		sched_push(&s->data, row);
	}
}

void streams_sent(struct streams *s, const struct streams_batch *b)
{
	for (int i = 0; i < b->n_ended; i++)
		if (s->of_row[b->ended[i]].id != 0)
			execs_settle(s->execs, b->ended[i]);
}
