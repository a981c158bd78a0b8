#include "host-shim/daemon/executions/reader.h"

#include <errno.h>
#include <stdlib.h>

#include "host-shim/daemon/executions/registry.h"

int reader_open(struct reader **out, struct execution *x, uint64_t from, void (*wake)(void *arg), void *arg,
		struct err *e)
{
	struct reader *r = calloc(1, sizeof *r);
	if (!r)
		return err_set(e, "reader", ENOMEM, "no memory for a reader");
	int status = x->log ? 0 : execution_open_log(x, false, e);
	if (status < 0) {
		free(r);
		return status;
	}
	r->execution = execution_ref(x);
	r->wake = wake;
	r->arg = arg;
	r->position = from;
	r->progress_ms = uv_now(x->registry->config.loop);
	segment_walk_init(&r->walk);
	x->had_reader = true;
	TAILQ_INSERT_TAIL(&x->readers, r, link);
	*out = r;
	return 0;
}

void reader_close(struct reader *r)
{
	if (!r)
		return;
	struct execution *x = r->execution;
	TAILQ_REMOVE(&x->readers, r, link);
	segment_walk_finish(&r->walk);
	free(r);
	execution_touch(x);
	execution_unref(x);
}

uint64_t reader_position(const struct reader *r)
{
	return r->position;
}

bool reader_holds(const struct reader *r, uint64_t now)
{
	return r->waiting || now - r->progress_ms < EXECUTION_HOLD_MS;
}

static bool ended(const struct execution *x)
{
	return x->over || x->phase == PHASE_REMOVED;
}

/* How far this reader may go for now. */
static uint64_t readable(const struct reader *r)
{
	const struct execution *x = r->execution;
	uint64_t end = x->log && log_loaded(x->log) ? log_readable(x->log) : 0;
	/* What a background child wrote after the end stays in the log. */
	return ended(x) && x->row.finish < end ? x->row.finish : end;
}

bool reader_wake(struct reader *r)
{
	bool more = r->position < readable(r) || (ended(r->execution) && !r->exit_given);
	if (!r->waiting || !more || !log_loaded(r->execution->log))
		return false;
	r->waiting = false;
	r->progress_ms = uv_now(r->execution->registry->config.loop);
	r->wake(r->arg);
	return true;
}

static void give_gap(struct reader *r, uint64_t to, int channel, struct reader_item *out)
{
	*out = (struct reader_item){
		.kind = READ_GAP, .channel = channel, .gap_from = r->position, .gap_to = to, .position = to};
	r->position = to;
}

static void give_data(struct reader *r, size_t max, struct reader_item *out)
{
	uint64_t allowed = readable(r) - r->position;
	size_t n = r->rest_len < max ? r->rest_len : max;
	if (n > allowed)
		n = (size_t)allowed;
	r->position += n;
	*out = (struct reader_item){.kind = READ_DATA,
				    .channel = r->record.channel,
				    .data = r->rest,
				    .len = n,
				    .position = r->position,
				    .file = r->walk.fd,
				    .at = r->rest_at};
	if (r->rest)
		r->rest += n;
	r->rest_at += n;
	r->rest_len -= n;
}

/* The walk cannot go on where it is: the next segment, if there is one. */
static int next_segment(struct reader *r)
{
	uint64_t next;
	segment_walk_close(&r->walk);
	if (!log_next(r->execution->log, r->segment, &next))
		return -ENODATA;
	r->segment = next;
	return 0;
}

static int open_segment(struct reader *r)
{
	struct segment_header h;
	const struct log *l = r->execution->log;
	int status = segment_walk_open(&r->walk, log_dir(l), log_id(l), r->segment, &h);
	if (status < 0)
		return status;
	r->point = (struct log_point){.offset = {0, h.stdout_offset, h.stderr_offset}};
	return 0;
}

/* Brings the next record that reaches beyond the reader's position to r->rest, or a gap to *out: 1. 0 if
 * there is none yet, -errno if the log cannot be read any further. */
static int advance(struct reader *r, struct reader_item *out)
{
	const struct log *l = r->execution->log;
	const uint8_t *payload;
	for (;;) {
		if (r->walk.fd < 0) {
			uint64_t tried = r->segment;
			int status = open_segment(r);
			if (status == -ENOENT && log_find(l, r->position, &r->segment)) {
				if (r->segment == tried)
					return 0; /* just deleted: the writer's report is on its way */
				status = 0;
			}
			if (status == -EBADMSG)
				status = next_segment(r);
			if (status < 0)
				return status;
			continue;
		}
		uint64_t at = log_point_position(&r->point);
		if (at > r->position) { /* this segment begins behind what was lost */
			give_gap(r, at, 0, out);
			return 1;
		}
		int got = segment_walk_next(&r->walk, log_limit(l, r->segment), &r->record, &payload);
		if (got < 0 && got != -EBADMSG)
			return got;
		if (got <= 0 || log_point_pass(&r->point, &r->record, payload) < 0) {
			int status = next_segment(r);
			if (status < 0)
				return status;
			continue;
		}
		uint64_t end = log_point_position(&r->point);
		if (end <= r->position)
			continue;
		if (r->record.kind == RECORD_GAP) {
			give_gap(r, end, r->record.channel, out);
			return 1;
		}
		size_t skip = (size_t)(r->position - r->record.position);
		r->rest = payload ? payload + skip : NULL;
		r->rest_at = segment_walk_tell(&r->walk) - r->record.len + skip;
		r->rest_len = r->record.len - skip;
		return 1;
	}
}

static void read_on(struct reader *r, size_t max, struct reader_item *out)
{
	struct execution *x = r->execution;
	uint64_t end = readable(r);
	*out = (struct reader_item){.kind = READ_WAIT, .position = r->position};
	if (r->broken) {
		out->kind = READ_ERROR;
		return;
	}
	if (!x->log || !log_loaded(x->log))
		return;
	/* A position that never was: of a client that made it up. */
	if (r->position > log_readable(x->log) && !(ended(x) && r->position <= x->row.finish))
		r->position = end;
	if (r->position >= end) {
		if (!ended(x) || r->exit_given)
			return;
		if (r->position < x->row.finish) {
			give_gap(r, x->row.finish, 0, out);
			return;
		}
		r->exit_given = true;
		out->kind = READ_EXIT;
		return;
	}

	if (r->rest_len == 0) {
		if (r->walk.fd < 0 && !log_find(x->log, r->position, &r->segment))
			return;
		int status = advance(r, out);
		if (status < 0) {
			r->broken = true;
			out->kind = READ_ERROR;
		}
		if (status <= 0 || out->kind == READ_GAP)
			return;
	}
	give_data(r, max, out);
}

void reader_load(struct reader *r, struct reader_item *item)
{
	if (item->kind != READ_DATA || item->data)
		return;
	if (segment_walk_load(&r->walk, item->at, item->len, &item->data) < 0) {
		r->broken = true;
		item->kind = READ_ERROR;
	}
}

void reader_next(struct reader *r, size_t max, struct reader_item *out)
{
	read_on(r, max, out);
	r->waiting = out->kind == READ_WAIT;
	r->progress_ms = uv_now(r->execution->registry->config.loop);
	/* Whoever was held up by this reader may go on. */
	if (r->execution->attention && !r->waiting)
		execution_touch(r->execution);
}
