#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/executions/reader.h"
#include "host-shim/daemon/executions/registry.h"

/* ---- tables ---- */

static unsigned bucket(const uint8_t id[16])
{
	return wire_get_u32(id) % REGISTRY_BUCKETS; /* ids are random */
}

struct execution *registry_get(struct executions *xs, const uint8_t id[16])
{
	struct execution *x;
	LIST_FOREACH (x, &xs->by_id[bucket(id)], by_id)
		if (memcmp(x->row.id, id, 16) == 0)
			return x;
	return NULL;
}

static struct tombstone *find_tombstone(struct executions *xs, const uint8_t id[16])
{
	struct tombstone *t;
	LIST_FOREACH (t, &xs->tombs_by_id[bucket(id)], by_id)
		if (memcmp(t->id, id, 16) == 0)
			return t;
	return NULL;
}

bool registry_has_tombstone(struct executions *xs, const uint8_t id[16])
{
	return find_tombstone(xs, id) != NULL;
}

static void tombstone_free(struct executions *xs, struct tombstone *t)
{
	LIST_REMOVE(t, by_id);
	TAILQ_REMOVE(&xs->tombs, t, in_order);
	xs->tomb_count--;
	free(t);
}

static void add_tombstone(struct executions *xs, const struct row *row)
{
	struct tombstone *t = malloc(sizeof *t + strlen(row->box_id) + 1);
	if (!t)
		return; /* 404 instead of 410 */
	memcpy(t->id, row->id, sizeof t->id);
	strcpy(t->box_id, row->box_id);
	LIST_INSERT_HEAD(&xs->tombs_by_id[bucket(t->id)], t, by_id);
	TAILQ_INSERT_TAIL(&xs->tombs, t, in_order);
	if (++xs->tomb_count > TOMBSTONES_MAX) {
		struct tombstone *oldest = TAILQ_FIRST(&xs->tombs);
		rows_delete(xs->config.store, oldest->id);
		tombstone_free(xs, oldest);
	}
}

void registry_add(struct executions *xs, struct execution *x)
{
	LIST_INSERT_HEAD(&xs->by_id[bucket(x->row.id)], x, by_id);
	x->phase = x->row.state == ROW_RUNNING ? PHASE_LIVE : PHASE_DONE;
	x->live = x->phase == PHASE_LIVE;
	x->over = x->phase == PHASE_DONE;
	xs->live += x->live;
}

static void leave_queues(struct execution *x)
{
	struct executions *xs = x->registry;
	if (x->touched)
		TAILQ_REMOVE(&xs->touched, x, in_touched);
	if (x->attention)
		TAILQ_REMOVE(&xs->attention, x, in_attention);
	if (x->kept) {
		TAILQ_REMOVE(&xs->finished, x, in_finished);
		xs->finished_count--;
		xs->finished_bytes -= x->row.log_bytes;
	}
	x->touched = x->attention = x->kept = false;
	execution_cancel_ack(x);
}

void registry_drop(struct execution *x)
{
	struct executions *xs = x->registry;
	leave_queues(x);
	xs->live -= x->live;
	x->live = false;
	LIST_REMOVE(x, by_id);
	execution_unref(x);
}

struct execution *executions_find(struct executions *xs, const char *box_id, const char *id, bool *reaped)
{
	uint8_t raw[16];
	*reaped = false;
	if (!id_from_hex(raw, id))
		return NULL;
	struct execution *x = registry_get(xs, raw);
	if (x)
		return strcmp(x->row.box_id, box_id) == 0 && x->phase > PHASE_STARTING ? x : NULL;
	struct tombstone *t = find_tombstone(xs, raw);
	*reaped = t && strcmp(t->box_id, box_id) == 0;
	return NULL;
}

void executions_each(struct executions *xs, const char *box_id, void (*fn)(void *arg, struct execution *x),
		     void *arg)
{
	struct execution *x;
	for (unsigned i = 0; i < REGISTRY_BUCKETS; i++)
		LIST_FOREACH (x, &xs->by_id[i], by_id)
			if (x->phase > PHASE_STARTING && strcmp(x->row.box_id, box_id) == 0)
				fn(arg, x);
}

void registry_log_dir(const struct executions *xs, const char *box_id, const char *hex, char *out,
		      size_t size)
{
	snprintf(out, size, "%s/boxes/%s/executions/%s", xs->state_dir, box_id, hex);
}

/* ---- retention ---- */

void registry_reap(struct execution *x)
{
	struct executions *xs = x->registry;
	char dir[4096];
	log_destroy(x->log);
	x->log = NULL;
	registry_log_dir(xs, x->row.box_id, x->hex, dir, sizeof dir);
	log_remove(xs->writer, dir);
	x->row.state = ROW_REAPED;
	x->row.reaped_ms = clock_ms(CLOCK_REALTIME);
	rows_put(xs->config.store, &x->row, NULL, 0, NULL, NULL);
	add_tombstone(xs, &x->row);
	x->phase = PHASE_REMOVED;
	registry_drop(x);
}

/* The oldest that may go: nobody reads it, and the agent has no more of it. */
static struct execution *oldest_idle(struct executions *xs)
{
	struct execution *x;
	TAILQ_FOREACH (x, &xs->finished, in_finished)
		if (x->row.drained && TAILQ_EMPTY(&x->readers) && x->refs == 1)
			return x;
	return NULL;
}

static void retain(struct executions *xs);

static void on_retention(uv_timer_t *t)
{
	retain(t->data);
}

/* Reaps what is too old or too much, and sets the clock for the next. */
static void retain(struct executions *xs)
{
	uint64_t now = clock_ms(CLOCK_REALTIME);
	struct execution *x;
	while ((x = oldest_idle(xs))) {
		uint64_t due = x->row.ended_ms + xs->config.retention_ms;
		bool many =
			xs->finished_count > EXECUTIONS_KEPT_MAX || xs->finished_bytes > EXECUTIONS_LOGS_MAX;
		if (now < due && !many)
			break;
		registry_reap(x);
	}
	if (!x && TAILQ_EMPTY(&xs->finished))
		return;
	uint64_t due = x ? x->row.ended_ms + xs->config.retention_ms : now + EXECUTION_RETRY_MS;
	uint64_t wait = due > now ? due - now : 1;
	uv_timer_start(&xs->retention, on_retention, wait, 0);
}

void registry_keep(struct execution *x)
{
	struct executions *xs = x->registry;
	xs->live -= x->live;
	x->live = false;
	x->kept = true;
	TAILQ_INSERT_TAIL(&xs->finished, x, in_finished);
	xs->finished_count++;
	xs->finished_bytes += x->row.log_bytes;
	if (!uv_is_active((uv_handle_t *)&xs->retention) || xs->finished_count > EXECUTIONS_KEPT_MAX ||
	    xs->finished_bytes > EXECUTIONS_LOGS_MAX)
		uv_timer_start(&xs->retention, on_retention, 0, 0);
}

void registry_resize(struct execution *x, uint64_t log_bytes)
{
	if (x->kept)
		x->registry->finished_bytes += log_bytes - x->row.log_bytes;
	x->row.log_bytes = log_bytes;
}

void executions_forget_box(struct executions *xs, const char *box_id)
{
	char dir[4096];
	for (unsigned i = 0; i < REGISTRY_BUCKETS; i++) {
		struct execution *x, *next;
		for (x = LIST_FIRST(&xs->by_id[i]); x; x = next) {
			next = LIST_NEXT(x, by_id);
			if (strcmp(x->row.box_id, box_id) != 0)
				continue;
			registry_log_dir(xs, box_id, x->hex, dir, sizeof dir);
			execution_remove(x);
			log_remove(xs->writer, dir);
		}
		struct tombstone *t, *after;
		for (t = LIST_FIRST(&xs->tombs_by_id[i]); t; t = after) {
			after = LIST_NEXT(t, by_id);
			if (strcmp(t->box_id, box_id) == 0)
				tombstone_free(xs, t);
		}
	}
	rows_delete_box(xs->config.store, box_id);
}

/* ---- the loop ---- */

static void on_settle(uv_idle_t *h)
{
	struct executions *xs = h->data;
	struct execution *x, *last = TAILQ_LAST(&xs->touched, execution_queue);
	bool more = last != NULL;
	/* What is touched meanwhile has its turn after the next poll. */
	while (more && (x = TAILQ_FIRST(&xs->touched))) {
		more = x != last;
		TAILQ_REMOVE(&xs->touched, x, in_touched);
		x->touched = false;
		execution_settle(x);
	}
	if (TAILQ_EMPTY(&xs->touched))
		uv_idle_stop(h);
}

void execution_touch(struct execution *x)
{
	struct executions *xs = x->registry;
	if (x->touched || x->phase == PHASE_REMOVED || xs->closing)
		return;
	x->touched = true;
	TAILQ_INSERT_TAIL(&xs->touched, x, in_touched);
	uv_idle_start(&xs->settle, on_settle);
}

static void on_tick(uv_timer_t *t)
{
	struct executions *xs = t->data;
	struct execution *x;
	while ((x = TAILQ_FIRST(&xs->attention))) {
		TAILQ_REMOVE(&xs->attention, x, in_attention);
		x->attention = false;
		execution_retry(x);
	}
}

void execution_watch(struct execution *x)
{
	struct executions *xs = x->registry;
	if (x->attention || x->phase == PHASE_REMOVED || xs->closing)
		return;
	x->attention = true;
	TAILQ_INSERT_TAIL(&xs->attention, x, in_attention);
	if (!uv_is_active((uv_handle_t *)&xs->tick))
		uv_timer_start(&xs->tick, on_tick, EXECUTION_RETRY_MS, 0);
}

/* ---- life ---- */

static void load_row(void *arg, const struct row *row)
{
	struct executions *xs = arg;
	if (row->state == ROW_REAPED) {
		add_tombstone(xs, row);
		return;
	}
	struct execution *x = execution_create(xs, row);
	if (!x)
		return;
	if (x->phase == PHASE_DONE)
		registry_keep(x);
	else
		execution_open_log(x, false, NULL);
}

static void on_closed(uv_handle_t *h)
{
	struct executions *xs = h->data;
	if (--xs->handles > 0)
		return;
	free(xs->state_dir);
	free(xs);
}

static void close_handles(struct executions *xs)
{
	uv_close((uv_handle_t *)&xs->settle, on_closed);
	uv_close((uv_handle_t *)&xs->tick, on_closed);
	uv_close((uv_handle_t *)&xs->retention, on_closed);
	uv_close((uv_handle_t *)&xs->acks_due, on_closed);
}

int executions_create(struct executions **out, const struct executions_config *c, struct err *e)
{
	struct executions *xs = calloc(1, sizeof *xs);
	char *dir = strdup(c->state_dir);
	if (!xs || !dir) {
		free(xs);
		free(dir);
		return err_set(e, "executions", ENOMEM, "no memory for the registry");
	}
	xs->config = *c;
	xs->config.state_dir = xs->state_dir = dir;
	if (!xs->config.log_limit)
		xs->config.log_limit = EXECUTIONS_LOG_LIMIT;
	if (!xs->config.retention_ms)
		xs->config.retention_ms = EXECUTIONS_RETENTION_MS;
	xs->epoch = c->host_epoch;
	TAILQ_INIT(&xs->tombs);
	TAILQ_INIT(&xs->finished);
	TAILQ_INIT(&xs->touched);
	TAILQ_INIT(&xs->attention);
	TAILQ_INIT(&xs->acks);
	uv_idle_init(c->loop, &xs->settle);
	uv_timer_init(c->loop, &xs->tick);
	uv_timer_init(c->loop, &xs->retention);
	uv_timer_init(c->loop, &xs->acks_due);
	xs->settle.data = xs->tick.data = xs->retention.data = xs->acks_due.data = xs;
	xs->handles = 4;
	int r = writer_create(&xs->writer, c->loop, e);
	if (r == 0)
		r = rows_load(c->store, load_row, xs, e);
	if (r < 0) {
		executions_destroy(xs);
		return r;
	}
	*out = xs;
	return 0;
}

void executions_destroy(struct executions *xs)
{
	static const struct failure going = {.kind = FAIL_UNAVAILABLE, .message = "tenond is going down"};
	if (!xs)
		return;
	xs->closing = true;
	for (unsigned i = 0; i < REGISTRY_BUCKETS; i++) {
		struct execution *x;
		while ((x = LIST_FIRST(&xs->by_id[i]))) {
			start_answer(x, &going);
			x->phase = PHASE_REMOVED;
			log_destroy(x->log);
			x->log = NULL;
			registry_drop(x);
		}
	}
	while (!TAILQ_EMPTY(&xs->tombs))
		tombstone_free(xs, TAILQ_FIRST(&xs->tombs));
	writer_destroy(xs->writer);
	close_handles(xs);
}
