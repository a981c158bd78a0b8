/* Two layers become one when the lower is needed by nobody but the upper: else a box that is snapshotted each
 * night, with the old ones deleted, would have a chain without end.
 *
 * The upper is committed into the lower, which no view changes by: what was taken over lies in the upper
 * still. Then the lower's file gets the upper's name. Whenever this is cut off, what is there shows what was
 * there before; a rename that the rows do not know of is mended at the next start (layers.c). Nobody else may
 * have either open: a box whose VM has is left for later, and one that wants to start has the merge stopped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "proto/cleanup.h"

#define DEADLINE_MS 3600000

struct merge {
	struct boxes *boxes;
	struct layer *lower, *upper; /* a reference each */
	struct img *img;
};

struct merged { /* on its way to the store */
	struct boxes *boxes;
	char id[ULID_LENGTH + 1], above[ULID_LENGTH + 1], below[ULID_LENGTH + 1];
};

static int write_merged(sqlite3 *db, void *arg, struct err *e)
{
	const struct merged *m = arg;
	return layer_absorb(db, m->id, m->above, m->below, e);
}

static void on_merged_committed(void *arg, int status, const struct err *e)
{
	struct merged *m = arg;
	struct boxes *bs = m->boxes;
	/* The next start finds a row without a file, and understands. */
	if (status < 0)
		fprintf(stderr, "tenond: layer %s: its merge is not committed: %s\n", m->above, e->msg);
	free(m);
	boxes_unref(bs);
}

static void end(struct merge *m)
{
	struct boxes *bs = m->boxes;
	bs->merge = NULL;
	m->lower->merging = false;
	layer_unref(m->lower);
	layer_unref(m->upper);
	free(m);
}

static void commit_merged(struct merge *m)
{
	struct merged *w = malloc(sizeof *w);
	if (!w)
		abort(); /* as in store_submit */
	w->boxes = m->boxes;
	strcpy(w->id, m->lower->id);
	strcpy(w->above, m->upper->id);
	strcpy(w->below, m->lower->below ? m->lower->below->id : "");
	boxes_ref(m->boxes);
	store_submit(m->boxes->config.store, write_merged, on_merged_committed, w);
}

/* The upper is held by somebody beside us, and the lower by the upper alone. */
static bool is_still_wanted(const struct merge *m)
{
	return m->upper->refs > 1 && m->lower->refs == 2 && m->lower->above == 1;
}

static void on_done(void *arg, const struct err *e)
{
	struct merge *m = arg;
	struct boxes *bs = m->boxes;
	char lower[LAYERS_PATH_MAX], upper[LAYERS_PATH_MAX];
	m->img = NULL;
	if (e && e->errnum != ECANCELED)
		fprintf(stderr, "tenond: layers %s and %s stay two: %s\n", m->lower->id, m->upper->id,
			e->msg);
	layer_path(m->lower, lower);
	layer_path(m->upper, upper);
	bool merged = !e && is_still_wanted(m) && rename(lower, upper) == 0;
	if (merged) {
		struct layer *l = m->lower, *u = m->upper;
		commit_merged(m);
		bs->merge = NULL;
		layer_absorbed(l, u);
		layer_unref(u);
		free(m);
	} else {
		end(m);
	}
	boxes_disks_free(bs);
	/* After a failure another try would fail likewise, and after a stop somebody is starting: later work
	 * on some disk brings the next one. */
	if (merged)
		merge_kick(bs);
}

static bool is_open(const struct boxes *bs, const struct layer *l)
{
	const struct box *b;
	const struct layer *r;
	TAILQ_FOREACH (b, &bs->list, entry)
		if (state_has_vm(b->row.life.status) &&
		    (layer_rests_on(b->layer, l) || (b->next && layer_rests_on(b->next, l))))
			return true;
	for (r = layers_first(bs->layers); r; r = LIST_NEXT(r, entry))
		if (r->readers && layer_rests_on(r, l))
			return true;
	return false;
}

/* Whether a box's own work may be about to open it. */
static bool is_held(const struct boxes *bs, const struct layer *upper)
{
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry)
		if (b->disk_held && layer_rests_on(b->layer, upper))
			return true;
	return false;
}

static struct layer *find_upper(const struct boxes *bs)
{
	struct layer *u;
	for (u = layers_first(bs->layers); u; u = LIST_NEXT(u, entry))
		if (u->below && u->refs && u->below->refs == 1 && u->below->above == 1 &&
		    !is_open(bs, u->below) && !is_held(bs, u))
			return u;
	return NULL;
}

void merge_kick(struct boxes *bs)
{
	struct layer *u = bs->merge || bs->closing ? NULL : find_upper(bs);
	struct merge *m = u ? calloc(1, sizeof *m) : NULL;
	if (!m)
		return;
	char lower[LAYERS_PATH_MAX], upper[LAYERS_PATH_MAX];
	layer_path(u->below, lower);
	layer_path(u, upper);
	const char *const take_in[] = {"qemu-img", "commit", "-q", "-d", "-f", "qcow2", upper, NULL};
	/* What an earlier merge that was cut off had taken and not used. */
	const char *const check[] = {"qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", lower, NULL};
	struct img_config c = {.loop = bs->config.loop,
			       .steps = {take_in, check},
			       .deadline_ms = DEADLINE_MS,
			       .arg = m,
			       .done = on_done};
	struct err e;
	*m = (struct merge){.boxes = bs, .lower = layer_ref(u->below), .upper = layer_ref(u)};
	m->lower->merging = true;
	bs->merge = m;
	if (img_run(&m->img, &c, &e) < 0) {
		fprintf(stderr, "tenond: layers are not merged: %s\n", e.msg);
		end(m);
	}
}

bool merge_stop(struct boxes *bs, const struct layer *l)
{
	const struct merge *m = bs->merge;
	if (!m || !l || !layer_rests_on(l, m->lower))
		return false;
	img_stop(m->img);
	return true;
}

void merge_abandon(struct boxes *bs)
{
	if (!bs->merge)
		return;
	img_cancel(bs->merge->img);
	end(bs->merge);
}
