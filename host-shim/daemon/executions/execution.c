#include "host-shim/daemon/executions/execution.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/executions/reader.h"
#include "host-shim/daemon/executions/registry.h"
#include "host-shim/daemon/executions/session.h"
#include "host-shim/daemon/link/unpack.h"

#define TOTAL_UNKNOWN UINT64_MAX /* EOF tells (WIRE.md §5) */

static const struct failure ended_failure = {.kind = FAIL_CONFLICT, .message = "the execution has ended"};

/* ---- life ---------------------------------------------------------------------------------------------- */

static int on_response(struct link_stream *s, const Tenon__Response *m, struct err *e);
static int on_frame(struct link_stream *s, const struct frame *f, struct err *e);
static int on_event(struct link_stream *s, const Tenon__Event *m, struct err *e);
static void on_lost(struct link_stream *s, const struct err *why);

static struct execution *of_stream(struct link_stream *s)
{
	return (struct execution *)((char *)s - offsetof(struct execution, stream));
}

struct execution *execution_create(struct executions *xs, const struct row *row)
{
	struct execution *x = calloc(1, sizeof *x);
	if (!x)
		return NULL;
	x->registry = xs;
	x->refs = 1;
	x->row = *row;
	id_to_hex(x->hex, row->id);
	x->stream = (struct link_stream){
		.response = on_response, .frame = on_frame, .event = on_event, .lost = on_lost};
	input_init(&x->input);
	TAILQ_INIT(&x->readers);
	x->grace_until = uv_now(xs->config.loop) + EXECUTION_GRACE_MS;
	registry_add(xs, x);
	return x;
}

struct execution *execution_ref(struct execution *x)
{
	x->refs++;
	return x;
}

void execution_unref(struct execution *x)
{
	if (!x || --x->refs > 0)
		return;
	input_finish(&x->input, &ended_failure);
	log_destroy(x->log);
	free(x);
}

static void on_log_changed(void *arg)
{
	execution_touch(arg);
}

int execution_open_log(struct execution *x, bool fresh, struct err *e)
{
	char dir[PATH_MAX];
	registry_log_dir(x->registry, x->row.box_id, x->hex, dir, sizeof dir);
	struct log_config c = {.writer = x->registry->writer,
			       .dir = dir,
			       .id = x->row.id,
			       .bound = x->registry->config.log_limit,
			       .arg = x,
			       .changed = on_log_changed};
	return fresh ? log_create(&x->log, &c, e) : log_load(&x->log, &c, e);
}

static void detach(struct execution *x, bool reset)
{
	if (x->session && x->session->link)
		link_stream_close(x->session->link, &x->stream, reset);
	x->stream.id = 0;
	x->attached = false;
}

void execution_remove(struct execution *x)
{
	if (x->phase == PHASE_REMOVED)
		return;
	detach(x, true);
	session_remove(x);
	rows_delete(x->registry->config.store, x->row.id);
	x->phase = PHASE_REMOVED;
	registry_drop(x);
}

/* ---- what the agent says ---- */

static void learn_exit(struct execution *x, const Tenon__ExitRecord *m)
{
	x->exited = true;
	x->exit_signal = (int)(m->signal & 127);
	x->exit_code = x->exit_signal ? -x->exit_signal : (int)(m->code & 255);
	x->timed_out = m->timed_out;
	x->total[CHANNEL_STDOUT] = m->stdout_total;
	x->total[CHANNEL_STDERR] = m->stderr_total;
	x->duration_ms = m->duration_ns / 1000000;
}

static int take_exit(struct execution *x, const Tenon__ExitRecord *m, struct err *e)
{
	if (x->exited)
		return 0;
	if ((m->stdout_total >= WIRE_OFFSET_END && m->stdout_total != TOTAL_UNKNOWN) ||
	    (m->stderr_total >= WIRE_OFFSET_END && m->stderr_total != TOTAL_UNKNOWN))
		return err_set(e, "exit", EPROTO, "totals beyond 2^62");
	uint8_t packed[LOG_EXIT_MAX];
	size_t len = tenon__exit_record__get_packed_size(m);
	if (len > sizeof packed)
		return err_set(e, "exit", EPROTO, "an exit record of %zu bytes", len);
	tenon__exit_record__pack(m, packed);
	learn_exit(x, m);
	log_put_exit(x->log, packed, len);
	execution_touch(x);
	return 0;
}

/* After a restart the log knows what this process does not. */
static void learn_from_log(struct execution *x)
{
	size_t len;
	struct err e;
	const uint8_t *packed = log_exit(x->log, &len);
	if (x->exited || !packed)
		return;
	Tenon__ExitRecord *m = (Tenon__ExitRecord *)unpack_bounded(&tenon__exit_record__descriptor, packed,
								   len, LINK_UNPACK_MAX, &e);
	if (m)
		learn_exit(x, m);
	tenon__exit_record__free_unpacked(m, NULL);
}

static int on_event(struct link_stream *s, const Tenon__Event *m, struct err *e)
{
	struct execution *x = of_stream(s);
	if (m->kind_case != TENON__EVENT__KIND_EXIT)
		return 0; /* newer than we are */
	if (!x->attached)
		return err_set(e, "exit", EPROTO, "an exit before the answer");
	return take_exit(x, m->exit, e);
}

static int take_data(struct execution *x, const struct frame *f, struct err *e)
{
	int c = frame_channel(f);
	size_t len;
	const uint8_t *data = frame_data(f, &len);
	uint64_t offset = frame_offset(f), at = log_accepted(x->log)->offset[c];
	if (offset > at)
		return err_set(e, "data", EPROTO, "a hole before byte %llu of channel %d",
			       (unsigned long long)offset, c);
	if (offset + len > x->limit[c])
		return err_set(e, "data", EPROTO, "channel %d sends beyond its credit", c);
	if (f->flags & FRAME_CREDIT_WANTED && x->wanted[c] < offset + len)
		x->wanted[c] = offset + len;
	if (offset + len <= at)
		return 0; /* sent again after a reconnect, and here already */
	if (log_accepted(x->log)->eof[c])
		return err_set(e, "data", EPROTO, "data after the end of channel %d", c);
	log_put_data(x->log, c, data + (at - offset), len - (size_t)(at - offset));
	x->session->traffic.received += len - (size_t)(at - offset);
	execution_touch(x);
	return 0;
}

static int take_gap(struct execution *x, const struct frame *f, struct err *e)
{
	int c = frame_channel(f);
	uint64_t to = frame_pair(f).b;
	if (to <= log_accepted(x->log)->offset[c])
		return 0;
	if (log_accepted(x->log)->eof[c])
		return err_set(e, "gap", EPROTO, "a gap after the end of channel %d", c);
	log_put_gap(x->log, c, to);
	execution_touch(x);
	return 0;
}

static int take_eof(struct execution *x, const struct frame *f, struct err *e)
{
	int c = frame_channel(f);
	if (c == CHANNEL_STDIN)
		return input_close(&x->input, frame_offset(f)) < 0
			       ? err_set(e, "stdin", EPROTO, "the agent took more stdin than was sent")
			       : 0;
	if (frame_offset(f) != log_accepted(x->log)->offset[c])
		return err_set(e, "eof", EPROTO, "channel %d ends at another place than its data", c);
	if (!log_accepted(x->log)->eof[c])
		log_put_eof(x->log, c);
	execution_touch(x);
	return 0;
}

static int on_frame(struct link_stream *s, const struct frame *f, struct err *e)
{
	struct execution *x = execution_ref(of_stream(s));
	int r = 0;
	switch (f->type) {
	case FRAME_DATA:
		r = take_data(x, f, e);
		break;
	case FRAME_GAP:
		r = take_gap(x, f, e);
		break;
	case FRAME_EOF:
		r = take_eof(x, f, e);
		break;
	case FRAME_CREDIT:
		if (input_credit(&x->input, frame_pair(f).a, frame_pair(f).b) < 0)
			r = err_set(e, "stdin", EPROTO, "the agent took more stdin than was sent");
		execution_touch(x);
		break;
	}
	execution_unref(x);
	return r;
}

static int take_state(struct execution *x, const Tenon__ExecState *m, struct err *e)
{
	if (m->stdin_acked >= WIRE_OFFSET_END || m->stdin_limit >= WIRE_OFFSET_END ||
	    input_resume(&x->input, m->stdin_acked, m->stdin_limit, m->stdin_closed) < 0)
		return err_set(e, "stdin", EPROTO, "the agent took more stdin than was sent");
	x->attached = true;
	if (m->exit && take_exit(x, m->exit, e) < 0)
		return -EPROTO;
	x->known = true;
	start_answer(x, NULL);
	if (x->row.kill && !x->exited)
		execution_send_kill(x);
	execution_touch(x);
	return 0;
}

/* The agent has no such row: it never had, or it was acknowledged. */
static void take_absence(struct execution *x)
{
	static const struct failure vanished = {.kind = FAIL_INTERNAL,
						.message = "the agent has lost the execution"};
	if (x->phase == PHASE_DONE) {
		x->acked = x->boot_ended = true;
		execution_touch(x);
	} else if (x->start) {
		start_answer(x, &vanished);
		execution_remove(x);
	} else if (!x->known && log_point_position(log_accepted(x->log)) == 0) {
		execution_remove(x); /* committed by a tenond that died before it could ask */
	} else {
		execution_end_boot(x, vanished.message);
	}
}

static void take_refusal(struct execution *x, const Tenon__Error *m)
{
	struct failure f;
	detach(x, false);
	switch (m->code) {
	case TENON__CODE__CODE_NOT_FOUND:
	case TENON__CODE__CODE_GONE:
		take_absence(x);
		break;
	case TENON__CODE__CODE_OUT_OF_RANGE:
		execution_end_boot(x, "the agent has less output than was received from it");
		break;
	default:
		/* Refused, or it was spawning still and came to nothing. */
		if (x->phase == PHASE_STARTING || m->code == TENON__CODE__CODE_EXEC_FAILED ||
		    m->code == TENON__CODE__CODE_TIMEOUT) {
			failure_from_agent(&f, m);
			start_answer(x, &f);
			execution_remove(x);
		} else {
			x->retry_attach = true;
			execution_watch(x);
		}
	}
}

static int on_response(struct link_stream *s, const Tenon__Response *m, struct err *e)
{
	struct execution *x = execution_ref(of_stream(s));
	int r = 0;
	if (m->error) {
		take_refusal(x, m->error);
	} else if (m->result_case != TENON__RESPONSE__RESULT_EXEC) {
		r = err_set(e, "exec", EPROTO, "an answer of another kind");
	} else if (x->phase == PHASE_STARTING && !m->exec->fresh) {
		/* Our first Exec had arrived, its answer was lost. */
		detach(x, false);
		x->phase = PHASE_LIVE;
		execution_touch(x);
	} else {
		if (x->phase == PHASE_STARTING)
			x->phase = PHASE_LIVE;
		r = take_state(x, m->exec, e);
	}
	execution_unref(x);
	return r;
}

static void on_lost(struct link_stream *s, const struct err *why)
{
	struct execution *x = of_stream(s);
	x->attached = false;
	/* While the link stands, the agent has ended the stream alone: try again, but not at once. */
	if (strcmp(why->stage, "reset") == 0) {
		x->retry_attach = true;
		execution_watch(x);
	}
}

/* ---- credit ---- */

/* The log position from which on nothing may be deleted; the log's end if nobody holds it. */
static uint64_t held_position(const struct execution *x, uint64_t now)
{
	uint64_t held = log_readable(x->log);
	if (!x->had_reader && now < x->grace_until)
		return 0;
	const struct reader *r;
	TAILQ_FOREACH (r, &x->readers, link)
		if (reader_holds(r, now) && r->position < held)
			held = r->position;
	return held;
}

/* How far beyond what was accepted each channel may send; watches x if that is not much. */
static uint64_t window(struct execution *x)
{
	struct executions *xs = x->registry;
	uint64_t bound = xs->config.log_limit, share = EXECUTIONS_WINDOWS / 2 / (xs->live ? xs->live : 1);
	uint64_t held = held_position(x, uv_now(xs->config.loop));
	log_trim(x->log, held);
	uint64_t used = log_bytes_from(x->log, held), room = used < bound ? (bound - used) / 2 : 0;
	uint64_t wanted = share > EXECUTION_WINDOW       ? EXECUTION_WINDOW
			  : share < EXECUTION_WINDOW_MIN ? EXECUTION_WINDOW_MIN
							 : share;
	if (room >= wanted)
		return wanted;
	execution_watch(x);
	return room;
}

/* Each frame of credit interrupts the guest. While what came is on its way into the log there will be more to
 * acknowledge in a moment, and with that comes the next occasion to look. An agent that says when it wants
 * credit gets it when all up to there is in the log, and none for a few lines; the last goes with the
 * acknowledgement. */
static bool worth_telling(const struct execution *x, int c)
{
	const struct log_point *accepted = log_accepted(x->log);
	uint64_t acked = log_acked(x->log)->offset[c];
	bool ended = accepted->eof[c] && (!x->exited || x->ack_sent || x->acked);
	bool asks = x->session->features & WIRE_FEATURE_CREDIT_WANTED;
	if (acked <= x->credited[c])
		return false;
	return acked - x->credited[c] >= EXECUTION_WINDOW / 2 ||
	       (x->wanted[c] > x->credited[c] && acked >= x->wanted[c]) ||
	       (acked == accepted->offset[c] && (ended || !asks));
}

static void put_credit(struct execution *x, int c)
{
	uint8_t frame[FRAME_SMALL_MAX];
	x->credited[c] = log_acked(x->log)->offset[c];
	if (x->limit[c] < x->credited[c])
		x->limit[c] = x->credited[c];
	link_send(x->session->link, frame,
		  frame_put_credit(frame, x->stream.id, (enum frame_channel)c, x->credited[c], x->limit[c]));
}

static void send_credit(struct execution *x)
{
	const struct log_point *accepted = log_accepted(x->log), *acked = log_acked(x->log);
	uint64_t w = window(x);
	for (int c = CHANNEL_STDOUT; c <= CHANNEL_STDERR; c++) {
		uint64_t limit = accepted->offset[c] + w;
		/* A limit alone is worth a frame only if it is much, or all there was is used up; and not
		 * while there will be something to acknowledge with it. */
		bool wider =
			acked->offset[c] == accepted->offset[c] && limit > x->limit[c] &&
			(limit - x->limit[c] >= EXECUTION_WINDOW / 2 || x->limit[c] <= accepted->offset[c]);
		if (!worth_telling(x, c) && (!wider || accepted->eof[c]))
			continue;
		if (x->limit[c] < limit)
			x->limit[c] = limit;
		put_credit(x, c);
	}
}

static void send_input(struct execution *x)
{
	struct link *link = x->session->link;
	uint64_t offset;
	const uint8_t *data;
	size_t n;
	uint64_t high = x->input.high;
	while (link_queued(link) < LINK_QUEUE_LOW &&
	       (n = input_next(&x->input, FRAME_DATA_FULL, &offset, &data)) > 0)
		link_send_data(link, &x->stream, CHANNEL_STDIN, offset, data, n);
	x->session->traffic.sent += x->input.high - high;
	if (input_eof_due(&x->input)) {
		uint8_t frame[FRAME_SMALL_MAX];
		link_send(link, frame, frame_put_eof(frame, x->stream.id, CHANNEL_STDIN, x->input.end));
	}
}

/* ---- attaching and acknowledging ---- */

static void attach(struct execution *x)
{
	const struct log_point *accepted = log_accepted(x->log), *acked = log_acked(x->log);
	uint64_t w = window(x);
	for (int c = CHANNEL_STDOUT; c <= CHANNEL_STDERR; c++) {
		x->credited[c] = acked->offset[c];
		x->limit[c] = accepted->offset[c] + w;
	}
	Tenon__Attach attach = TENON__ATTACH__INIT;
	attach.id = (ProtobufCBinaryData){sizeof x->row.id, x->row.id};
	attach.stdout_end = acked->offset[CHANNEL_STDOUT];
	attach.stderr_end = acked->offset[CHANNEL_STDERR];
	attach.stdout_limit = x->limit[CHANNEL_STDOUT];
	attach.stderr_limit = x->limit[CHANNEL_STDERR];
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_ATTACH;
	req.attach = &attach;
	if (link_open(x->session->link, &x->stream, &req, NULL) < 0)
		execution_watch(x);
}

static void want_stream(struct execution *x)
{
	if (!x->session || !x->session->up || x->stream.id || x->retry_attach || x->boot_ended)
		return;
	if (x->phase == PHASE_STARTING) {
		uint64_t w = window(x);
		x->limit[CHANNEL_STDOUT] = x->limit[CHANNEL_STDERR] = w;
		x->credited[CHANNEL_STDOUT] = x->credited[CHANNEL_STDERR] = 0;
		start_send(x);
		executions_send_acks(x->registry, x->session);
	} else if (x->phase == PHASE_LIVE || x->phase == PHASE_FINISHING || x->phase == PHASE_DONE) {
		attach(x);
	}
}

static void on_acked(void *arg, const Tenon__Response *m, const struct err *why)
{
	struct execution *x = arg;
	(void)why;
	x->ack_sent = false;
	if (m)
		x->acked = true; /* a refusal is the agent's bug: asking again would not mend it */
	execution_touch(x);
	execution_unref(x);
}

static bool may_acknowledge(const struct execution *x)
{
	return x->phase == PHASE_DONE && x->attached && !x->acked && !x->ack_sent;
}

static void send_ack(struct execution *x)
{
	Tenon__ExecAck ack = TENON__EXEC_ACK__INIT;
	ack.id = (ProtobufCBinaryData){sizeof x->row.id, x->row.id};
	ack.answer_late = true;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_EXEC_ACK;
	req.exec_ack = &ack;
	x->ack_sent = true;
	for (int c = CHANNEL_STDOUT; x->log && c <= CHANNEL_STDERR; c++)
		if (x->credited[c] < log_acked(x->log)->offset[c])
			put_credit(x, c);
	session_call(x->session, &req, EXECUTION_CALL_MS, on_acked, execution_ref(x));
}

void execution_cancel_ack(struct execution *x)
{
	if (x->ack_due)
		TAILQ_REMOVE(&x->registry->acks, x, in_acks);
	x->ack_due = false;
}

void executions_send_acks(struct executions *xs, const struct session *of)
{
	struct execution *next;
	for (struct execution *x = TAILQ_FIRST(&xs->acks); x; x = next) {
		next = TAILQ_NEXT(x, in_acks);
		if (of && x->session != of)
			continue;
		execution_cancel_ack(x);
		if (may_acknowledge(x))
			send_ack(x);
	}
}

static void on_acks_due(uv_timer_t *t)
{
	executions_send_acks(t->data, NULL);
}

/* Each packet wakes the guest, and nobody waits for this one: it goes with the next command, or a little
 * later. */
static void acknowledge(struct execution *x)
{
	struct executions *xs = x->registry;
	if (!may_acknowledge(x) || x->ack_due || xs->closing)
		return;
	x->ack_due = true;
	TAILQ_INSERT_TAIL(&xs->acks, x, in_acks);
	if (!uv_is_active((uv_handle_t *)&xs->acks_due))
		uv_timer_start(&xs->acks_due, on_acks_due, EXECUTION_ACK_MS, 0);
}

/* ---- the end ---- */

/* The exit is known, and every byte up to its totals is in the file of the log. The exit record need not be:
 * it goes to the database next. */
static bool complete(const struct execution *x)
{
	const struct log_point *w = log_written(x->log);
	if (!x->exited || log_failing(x->log))
		return false;
	for (int c = CHANNEL_STDOUT; c <= CHANNEL_STDERR; c++)
		if (!w->eof[c] && w->offset[c] < x->total[c])
			return false;
	return true;
}

/* What the boot took with it: up to the totals a gap, and then nothing more. */
static void close_out(struct execution *x)
{
	x->closed_out = true;
	for (int c = CHANNEL_STDOUT; c <= CHANNEL_STDERR; c++) {
		const struct log_point *a = log_accepted(x->log);
		if (a->eof[c] || !(x->exited || x->phase == PHASE_DONE))
			continue;
		if (x->exited && x->total[c] != TOTAL_UNKNOWN && x->total[c] > a->offset[c])
			log_put_gap(x->log, c, x->total[c]);
		log_put_eof(x->log, c);
	}
	log_flush(x->log);
}

static void become_over(struct execution *x)
{
	x->over = true;
	session_uncount(x);
}

static void on_finished(void *arg, int status, const struct err *e)
{
	struct execution *x = arg;
	(void)e;
	if (x->phase == PHASE_FINISHING && status < 0) {
		x->phase = PHASE_LIVE; /* the database could not: again at the next tick */
		execution_watch(x);
	} else if (x->phase == PHASE_FINISHING) {
		x->phase = PHASE_DONE;
		become_over(x);
		registry_keep(x);
		input_finish(&x->input, &ended_failure);
		execution_touch(x);
		void (*tell)(void *) = x->on_end;
		x->on_end = NULL;
		if (tell)
			tell(x->on_end_arg);
	}
	execution_unref(x);
}

static void finish(struct execution *x)
{
	struct row *row = &x->row;
	bool killed = !x->exited || (row->kill && x->exit_signal == 9);
	row->state = killed ? ROW_KILLED : x->timed_out ? ROW_TIMED_OUT : ROW_COMPLETED;
	row->has_exit = x->exited;
	row->exit_code = x->exited ? x->exit_code : -1;
	row->ended_ms = clock_ms(CLOCK_REALTIME);
	row->duration_ms = x->exited ? x->duration_ms : row->ended_ms - row->started_ms;
	row->finish = log_readable(x->log);
	row->log_bytes = log_bytes(x->log);
	row->drained = x->boot_ended;
	if (killed && x->exited)
		strcpy(row->reason, "killed on request");
	else if (!killed)
		row->reason[0] = '\0';
	x->phase = PHASE_FINISHING;
	/* The agent keeps the exit record until it is acknowledged, and that comes after the commit: should
	 * this process die before, the next one is told the same. A boot that has ended keeps nothing: its
	 * end is told when it is committed. Should both die at once, the log has the exit in a moment,
	 * or the database. */
	if (x->exited && !x->boot_ended)
		become_over(x);
	struct store *store = x->registry->config.store;
	bool in_log = log_bytes(x->log) > 0;
	bool soon = !x->over || x->on_end || x->discard || !in_log;
	int r = soon ? rows_put(store, row, NULL, 0, on_finished, execution_ref(x))
		     : rows_put_later(store, row, on_finished, execution_ref(x));
	if (r < 0) {
		x->phase = PHASE_LIVE;
		execution_watch(x);
		execution_unref(x);
	}
}

/* Ended, acknowledged, and both channels at their end: the agent has forgotten it. */
static void forget_agent(struct execution *x)
{
	const struct log_point *w = log_written(x->log);
	bool drained = x->boot_ended || (x->acked && w->eof[CHANNEL_STDOUT] && w->eof[CHANNEL_STDERR]);
	if (x->phase != PHASE_DONE || x->row.drained || !drained)
		return;
	detach(x, false);
	session_remove(x);
	x->row.drained = true;
	registry_resize(x, log_bytes(x->log));
	/* Lost with tenond, it would be found out anew by an Attach. */
	rows_put_later(x->registry->config.store, &x->row, NULL, NULL);
}

void execution_end_boot(struct execution *x, const char *reason)
{
	struct failure f;
	if (x->phase == PHASE_REMOVED || x->boot_ended)
		return;
	execution_ref(x);
	detach(x, true);
	x->boot_ended = true;
	if (x->phase < PHASE_FINISHING)
		strncpy(x->row.reason, reason, sizeof x->row.reason - 1);
	failure_set(&f, FAIL_UNAVAILABLE, "%s", reason);
	start_answer(x, &f);
	if (x->phase == PHASE_COMMITTING || x->phase == PHASE_STARTING) {
		execution_remove(x);
	} else {
		session_remove(x);
		input_finish(&x->input, &ended_failure);
		execution_touch(x);
	}
	execution_unref(x);
}

/* ---- once per turn of the loop ---- */

static void wake_readers(struct execution *x)
{
	struct reader *r;
	bool again = true;
	/* A reader that is woken may close itself or others. */
	while (again) {
		again = false;
		TAILQ_FOREACH (r, &x->readers, link)
			if (reader_wake(r)) {
				again = true;
				break;
			}
	}
}

void execution_settle(struct execution *x)
{
	if (x->phase == PHASE_REMOVED || x->phase == PHASE_COMMITTING)
		return;
	execution_ref(x);
	if (x->log && log_loaded(x->log)) {
		if (x->phase == PHASE_LIVE)
			learn_from_log(x);
		want_stream(x);
		log_flush(x->log);
		if (x->attached) {
			send_credit(x);
			send_input(x);
		}
		if (x->boot_ended && !x->closed_out)
			close_out(x);
		if (x->phase == PHASE_LIVE && !x->start &&
		    (x->boot_ended ? log_settled(x->log) || log_failing(x->log) : complete(x)))
			finish(x);
		if (log_failing(x->log))
			execution_watch(x);
		acknowledge(x);
		forget_agent(x);
		if (!x->attached)
			window(x);
	}
	wake_readers(x);
	if (x->phase == PHASE_DONE && x->row.drained && x->log && TAILQ_EMPTY(&x->readers) &&
	    log_settled(x->log)) {
		log_destroy(x->log);
		x->log = NULL;
	}
	if (x->phase == PHASE_DONE && x->discard && x->row.drained && TAILQ_EMPTY(&x->readers))
		registry_reap(x);
	execution_unref(x);
}

void execution_retry(struct execution *x)
{
	x->retry_attach = false;
	if (x->log)
		log_retry(x->log);
	execution_touch(x);
}
