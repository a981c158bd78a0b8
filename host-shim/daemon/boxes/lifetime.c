/* auto_stop and auto_delete: what boxes do when nobody does anything with them.
 *
 * One timer for all, set to the next instant at which something can be due; what happens meanwhile only moves
 * deadlines further, so it is looked at when the timer fires. auto_stop counts from the last use of a box
 * that runs, auto_delete from the committed time of its stop, so that a restart of tenond does not begin it
 * anew. */
#include <stdlib.h>

#include "box.h"
#include "proto/clock.h"

static uint64_t now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

/* ---- uses ------------------------------------------------------------------------------------------ */

void box_touch(struct box *b)
{
	b->used_ms = now_ms();
}

void box_use_begin(struct box *b, struct box_use *u)
{
	u->box = b;
	LIST_INSERT_HEAD(&b->uses, u, entry);
}

void box_use_end(struct box_use *u)
{
	struct box *b = u->box;
	if (!b)
		return;
	LIST_REMOVE(u, entry);
	u->box = NULL;
	box_touch(b);
	/* The deletion of a box that is stopped waits for it. */
	if (b->row.life.status == BOX_STOPPED)
		boxes_attend(b->boxes);
}

void box_uses_drop(struct box *b)
{
	struct box_use *u;
	while ((u = LIST_FIRST(&b->uses))) {
		LIST_REMOVE(u, entry);
		u->box = NULL;
	}
}

/* Whether something is done in a box that runs. */
static bool in_use(const struct box *b)
{
	return !LIST_EMPTY(&b->uses) || (b->session && session_running(b->session));
}

/* ---- deadlines ------------------------------------------------------------------------------------- */

#define NEVER UINT64_MAX
#define MAIN_OVER_MS 250 /* between looks whether the last use is over */
#define AGAIN_MS 60000   /* after a deletion that failed */
#define DISK_MS 1000

static void on_done(void *arg, struct box *b, const struct failure *f)
{
	(void)arg;
	(void)b;
	(void)f;
}

/* Milliseconds until a box that runs is to stop; 0: now. */
static uint64_t until_stop(const struct box *b)
{
	uint64_t now = now_ms(), patience = (uint64_t)b->row.auto_stop * 1000, since = b->used_ms;
	if (in_use(b))
		return patience; /* from its last use on, which is not before now */
	uint64_t ended = b->session ? session_idle_since(b->session) : 0;
	if (ended > since)
		since = ended;
	return since + patience > now ? since + patience - now : 0;
}

static uint64_t until_delete(const struct box *b)
{
	int64_t due = b->told.updated_ms + b->row.auto_delete * 1000;
	int64_t now = (int64_t)clock_ms(CLOCK_REALTIME);
	return due > now ? (uint64_t)(due - now) : 0;
}

/* Does what is due and says when the next is. */
static uint64_t attend(struct box *b)
{
	enum box_status status = b->row.life.status;
	uint64_t left = NEVER;
	if (!b->listed || b->doomed || b->told.status != status)
		return NEVER; /* on its way to another state, which comes back here */
	/* Copies and snapshots are uses, too. They do not tell of their end: it is looked for. */
	if (box_disk_is_busy(b)) {
		box_touch(b);
		return DISK_MS;
	}
	if (status == BOX_RUNNING && box_main_wants_stop(b, !in_use(b))) {
		left = 0;
		box_stop(b, 0, on_done, NULL);
	} else if (status == BOX_RUNNING && b->main.over) {
		left = MAIN_OVER_MS;
	} else if (status == BOX_RUNNING && b->row.auto_stop > 0) {
		left = until_stop(b);
		if (!left)
			box_stop(b, 0, on_done, NULL);
	} else if (status == BOX_STOPPED && b->row.auto_delete > 0 && LIST_EMPTY(&b->uses)) {
		left = until_delete(b);
		if (!left)
			box_delete(b, false, on_done, NULL);
	}
	return left ? left : AGAIN_MS;
}

static void on_timer(uv_timer_t *t)
{
	boxes_attend(t->data);
}

void boxes_attend(struct boxes *bs)
{
	struct box *b, *next;
	uint64_t soonest = NEVER;
	if (bs->closing)
		return;
	for (b = TAILQ_FIRST(&bs->list); b; b = next) {
		next = TAILQ_NEXT(b, entry);
		uint64_t left = attend(b);
		if (left < soonest)
			soonest = left;
	}
	uv_update_time(bs->config.loop);
	if (soonest == NEVER)
		uv_timer_stop(&bs->attention);
	else
		uv_timer_start(&bs->attention, on_timer, soonest + 1, 0);
}
