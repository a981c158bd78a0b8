#include "guest/link/rpc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "guest/exec/process.h"
#include "guest/exec/signame.h"
#include "guest/link/pack.h"

#define LIST_MAX 256
#define SCRATCH_WARM 65536

static int check_id(const ProtobufCBinaryData *id, const char *field, struct fault *f)
{
	return id->len == EXEC_ID_SIZE
		       ? 0
		       : fault_invalid(f, field, "is %zu bytes, not %d", id->len, EXEC_ID_SIZE);
}

static int find_row(struct link *l, const ProtobufCBinaryData *id, const char *field, int *row,
		    struct fault *f)
{
	int r = check_id(id, field, f);
	if (r < 0)
		return r;
	switch (exec_table_find(&l->execs->table, id->data, row)) {
	case EXEC_LIVE:
		return 0;
	case EXEC_GONE:
		return fault_code(f, TENON__CODE__CODE_GONE, "the execution ended and was acknowledged");
	default:
		return fault_code(f, TENON__CODE__CODE_NOT_FOUND, "no such execution in this boot");
	}
}

static int refuse_aborted(const struct exec_row *r, struct fault *f)
{
	if (r->state != EXEC_ABORTED)
		return 0;
	fault_code(f, TENON__CODE__CODE_EXEC_FAILED, "its start was given up");
	f->err.stage = "spawn";
	return -ECANCELED;
}

/* A row as it stands, without becoming its stream. */
static void answer_exec(struct link *l, uint32_t stream, int row)
{
	struct packed_exec p;
	pack_exec(&p, exec_table_row(&l->execs->table, row), false);
	Tenon__Response r = TENON__RESPONSE__INIT;
	r.result_case = TENON__RESPONSE__RESULT_EXEC;
	r.exec = &p.state;
	pack_message(&l->main->out, stream, FRAME_RSP, &r.base);
}

/* ---- one function per operation: 0 when it was answered or will be, -errno with *f to be answered ---- */

/* A place among those who wait for an outcome; NULL with *f if there is none. */
static uint32_t *take_place(struct link *l, enum link_wait wait, uint32_t stream, struct fault *f)
{
	for (int i = 0; i < LINK_WAITERS; i++)
		if (l->waiters[wait][i] == 0) {
			l->waiters[wait][i] = stream;
			return &l->waiters[wait][i];
		}
	fault_exhausted(f, NULL, "%d requests wait for the same already", LINK_WAITERS);
	return NULL;
}

static int refuse_at_the_end(const struct link *l, struct fault *f)
{
	return power_shutting_down(l->power)
		       ? fault_code(f, TENON__CODE__CODE_SHUTTING_DOWN, "the VM is going down")
		       : 0;
}

static int serve_configure(struct link *l, uint32_t stream, const Tenon__Configure *req, struct fault *f)
{
	uint32_t *place = take_place(l, LINK_CONFIGURE, stream, f);
	int r = place ? box_configure(l->box, req, f) : -EBUSY;
	if (r < 0 && place)
		*place = 0;
	return r;
}

static int serve_quiesce(struct link *l, uint32_t stream, const Tenon__Quiesce *req, struct fault *f)
{
	uint32_t *place = take_place(l, LINK_QUIESCE, stream, f);
	int r = place ? quiesce_begin(l->quiesce, req, f) : -EBUSY;
	if (r < 0 && place)
		*place = 0;
	return r;
}

static int serve_resume(struct link *l, uint32_t stream, const Tenon__Resume *req, struct fault *f)
{
	uint32_t *place = take_place(l, LINK_RESUME, stream, f);
	int r = place ? quiesce_resume(l->quiesce, req, f) : -EBUSY;
	if (r < 0 && place)
		*place = 0;
	return r;
}

static int serve_kill_process(struct link *l, uint32_t stream, const Tenon__KillProcess *req, struct fault *f)
{
	int r = process_signal(l->execs, req->pid, req->started_ticks, req->signo, f);
	if (r == 0)
		pack_done(&l->main->out, stream);
	return r;
}

static int serve_repeated_exec(struct link *l, uint32_t stream, int row, const Tenon__Exec *req,
			       struct fault *f)
{
	struct exec_row *r = exec_table_row(&l->execs->table, row);
	if (r->state == EXEC_SPAWNING) {
		r->out[0].limit = req->stdout_limit;
		r->out[1].limit = req->stderr_limit;
		r->attached = true;
		streams_take(&l->streams, row, stream, true, &l->main->out);
		return 0;
	}
	int e = refuse_aborted(r, f);
	if (e == 0)
		answer_exec(l, stream, row);
	return e;
}

static int check_exec(const Tenon__Exec *req, struct fault *f)
{
	if (req->stdout_limit >= WIRE_OFFSET_END)
		return fault_invalid(f, "exec.stdout_limit", "is beyond 2^62");
	if (req->stderr_limit >= WIRE_OFFSET_END)
		return fault_invalid(f, "exec.stderr_limit", "is beyond 2^62");
	if (req->ring_policy > TENON__RING_POLICY__RING_DROP_OLDEST) {
		fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "unknown policy %u", (unsigned)req->ring_policy);
		f->field = "exec.ring_policy";
		return -EINVAL;
	}
	return 0;
}

static int serve_exec(struct link *l, uint32_t stream, const Tenon__Exec *req, struct fault *f)
{
	int row, r = check_id(&req->id, "exec.id", f);
	if (r < 0 || (r = check_exec(req, f)) < 0)
		return r;
	if (!l->box->configured)
		return fault_code(f, TENON__CODE__CODE_NOT_CONFIGURED, "Configure comes first");
	if ((r = refuse_at_the_end(l, f)) < 0)
		return r;
	switch (exec_table_find(&l->execs->table, req->id.data, &row)) {
	case EXEC_LIVE:
		return serve_repeated_exec(l, stream, row, req, f);
	case EXEC_GONE:
		return fault_code(f, TENON__CODE__CODE_GONE, "the execution ended and was acknowledged");
	default:
		if (quiesce_frozen(l->quiesce))
			return fault_code(f, TENON__CODE__CODE_FROZEN, "Resume comes first");
		row = execs_start(l->execs, req, f);
		if (row < 0)
			return row;
		streams_take(&l->streams, row, stream, true, &l->main->out);
		l->streams.of_row[row].patient = req->answer_late;
		return 0;
	}
}

static int serve_attach(struct link *l, uint32_t stream, const Tenon__Attach *req, struct fault *f)
{
	int row, r = find_row(l, &req->id, "attach.id", &row, f);
	if (r < 0)
		return r;
	const struct exec_row *x = exec_table_row(&l->execs->table, row);
	const struct exec_window windows[2] = {{req->stdout_end, req->stdout_limit},
					       {req->stderr_end, req->stderr_limit}};
	r = refuse_aborted(x, f);
	if (r < 0 || (r = execs_attach(l->execs, row, windows, f)) < 0)
		return r;
	streams_take(&l->streams, row, stream, false, &l->main->out);
	if (x->state != EXEC_SPAWNING)
		streams_answer(&l->streams, row, &l->main->out);
	return 0;
}

static int serve_ack(struct link *l, uint32_t stream, const Tenon__ExecAck *req, struct fault *f)
{
	int row, r = check_id(&req->id, "exec_ack.id", f);
	if (r < 0)
		return r;
	if (exec_table_find(&l->execs->table, req->id.data, &row) == EXEC_LIVE &&
	    (r = execs_ack(l->execs, row, f)) < 0)
		return r;
	/* Mostly the next command came with it, and this would be a packet of its own at its start. */
	struct conn *c = l->main;
	bool may_wait = req->answer_late && sendq_len(&c->out) == c->late;
	pack_done(&c->out, stream);
	if (may_wait) {
		c->late = sendq_len(&c->out);
		streams_await_more(&l->streams);
	}
	return 0;
}

static int serve_signal(struct link *l, uint32_t stream, const Tenon__Signal *req, struct fault *f)
{
	int row, r = find_row(l, &req->id, "signal.id", &row, f);
	if (r < 0)
		return r;
	int signo = req->signo <= 64 ? (int)req->signo : 0;
	if (req->name.len > 0 && req->signo != 0)
		return fault_invalid(f, "signal.name", "comes with the number %u", req->signo);
	if (req->name.len > 0 && (signo = signame_parse(req->name.data, req->name.len)) < 0)
		return fault_invalid(f, "signal.name", "is no signal's");
	if (signo == 0)
		return fault_invalid(f, "signal.signo", "%u is no signal", req->signo);
	if (req->target > TENON__TARGET__TARGET_ALL) {
		fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "unknown target %u", (unsigned)req->target);
		f->field = "signal.target";
		return -EINVAL;
	}
	r = execs_signal(l->execs, row, signo, req->target, f);
	if (r == 0)
		pack_done(&l->main->out, stream);
	return r;
}

static int serve_resize(struct link *l, uint32_t stream, const Tenon__Resize *req, struct fault *f)
{
	int row, r = find_row(l, &req->id, "resize.id", &row, f);
	if (r < 0)
		return r;
	if (!req->size)
		return fault_invalid(f, "resize.size", "is missing");
	r = execs_resize(l->execs, row, req->size, f);
	if (r == 0)
		pack_done(&l->main->out, stream);
	return r;
}

static int by_id(const void *a, const void *b, void *table)
{
	return memcmp(exec_table_row(table, *(const uint16_t *)a)->id,
		      exec_table_row(table, *(const uint16_t *)b)->id, EXEC_ID_SIZE);
}

static int serve_list(struct link *l, uint32_t stream, const Tenon__ListExecs *req, struct fault *f)
{
	struct exec_table *t = &l->execs->table;
	if (req->after.len > 0 && check_id(&req->after, "list_execs.after", f) < 0)
		return -EINVAL;
	uint16_t rows[EXEC_ROWS];
	size_t n = 0, max = req->max == 0 || req->max > LIST_MAX ? LIST_MAX : req->max;
	for (int i = exec_table_next(t, -1); i >= 0; i = exec_table_next(t, i)) {
		const struct exec_row *r = exec_table_row(t, i);
		/* A start that was given up was answered: it is no execution any more, only not reaped yet.
		 */
		if (r->state != EXEC_FREE && r->state != EXEC_ABORTED &&
		    (req->after.len == 0 || memcmp(r->id, req->after.data, EXEC_ID_SIZE) > 0))
			rows[n++] = (uint16_t)i;
	}
	qsort_r(rows, n, sizeof *rows, by_id, t);

	struct packed_exec packed[LIST_MAX];
	Tenon__ExecState *states[LIST_MAX];
	Tenon__ExecList list = TENON__EXEC_LIST__INIT;
	list.more = n > max;
	list.n_execs = n > max ? max : n;
	list.execs = states;
	for (size_t i = 0; i < list.n_execs; i++) {
		pack_exec(&packed[i], exec_table_row(t, rows[i]), false);
		states[i] = &packed[i].state;
	}
	Tenon__Response r = TENON__RESPONSE__INIT;
	r.result_case = TENON__RESPONSE__RESULT_EXECS;
	r.execs = &list;
	pack_message(&l->main->out, stream, FRAME_RSP, &r.base);
	return 0;
}

static int serve_shutdown(struct link *l, uint32_t stream, const Tenon__Shutdown *req)
{
	pack_done(&l->main->out, stream);
	power_shutdown(l->power, req->grace_ms);
	return 0;
}

static int serve(struct link *l, uint32_t stream, const Tenon__Request *req, struct fault *f)
{
	int r;
	switch (req->op_case) {
	case TENON__REQUEST__OP_CONFIGURE:
		r = refuse_at_the_end(l, f);
		return r < 0 ? r : serve_configure(l, stream, req->configure, f);
	case TENON__REQUEST__OP_QUIESCE:
		r = refuse_at_the_end(l, f);
		return r < 0 ? r : serve_quiesce(l, stream, req->quiesce, f);
	case TENON__REQUEST__OP_RESUME:
		r = refuse_at_the_end(l, f);
		return r < 0 ? r : serve_resume(l, stream, req->resume, f);
	case TENON__REQUEST__OP_KILL_PROCESS:
		return serve_kill_process(l, stream, req->kill_process, f);
	case TENON__REQUEST__OP_EXEC:
		return serve_exec(l, stream, req->exec, f);
	case TENON__REQUEST__OP_ATTACH:
		return serve_attach(l, stream, req->attach, f);
	case TENON__REQUEST__OP_EXEC_ACK:
		return serve_ack(l, stream, req->exec_ack, f);
	case TENON__REQUEST__OP_SIGNAL:
		return serve_signal(l, stream, req->signal, f);
	case TENON__REQUEST__OP_RESIZE:
		return serve_resize(l, stream, req->resize, f);
	case TENON__REQUEST__OP_LIST_EXECS:
		return serve_list(l, stream, req->list_execs, f);
	case TENON__REQUEST__OP_SHUTDOWN:
		return serve_shutdown(l, stream, req->shutdown);
	default:
		return fault_invalid(f, "op", "the request asks for nothing");
	}
}

int rpc_serve(struct link *l, const struct message *m, struct err *e)
{
	struct bump scratch;
	bump_init(&scratch, l->scratch, LINK_SCRATCH);
	const ProtobufCMessage *req;
	struct fault f;
	int r = pack_take_request(&scratch, &tenon__request__descriptor, m, &req, &f, e);
	if (r == -EPROTO)
		return r;
	if (r == 0)
		r = serve(l, m->stream, (const Tenon__Request *)req, &f);
	if (r < 0)
		pack_response_fault(&l->main->out, m->stream, &f);
	if (scratch.used > SCRATCH_WARM)
		memory_trim(l->scratch, SCRATCH_WARM, LINK_SCRATCH);
	return 0;
}
