#include "snapshots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "host-shim/daemon/store/sql.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

struct snapshot {
	TAILQ_ENTRY(snapshot) entry;
	struct box *box;
	char id[ULID_LENGTH + 1];
	char *name;
	struct layer *layer;
	int64_t created_ms;
	uint64_t disk_bytes, size_bytes, pause_us;
	bool listed; /* its row is committed and not deleted */

	snapshot_done_fn made; /* whoever waits for it */
	snapshot_over_fn over;
	void *arg;
};

static void free_snapshot(struct snapshot *s)
{
	free(s->name);
	free(s);
}

static void drop(struct snapshot *s)
{
	TAILQ_REMOVE(&s->box->snapshots, s, entry);
	free_snapshot(s);
}

static struct snapshot *find(struct box *b, const char *name)
{
	struct snapshot *s;
	TAILQ_FOREACH (s, &b->snapshots, entry)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

static void get_info(const struct snapshot *s, struct snapshot_info *out)
{
	*out = (struct snapshot_info){.id = s->id,
				      .box_id = s->box->row.id,
				      .name = s->name,
				      .created_ms = s->created_ms,
				      .disk_bytes = s->disk_bytes,
				      .size_bytes = s->size_bytes,
				      .pause_us = s->pause_us};
}

bool box_find_snapshot(struct box *b, const char *name, struct snapshot_info *out)
{
	const struct snapshot *s = find(b, name);
	if (!s || !s->listed)
		return false;
	get_info(s, out);
	return true;
}

void box_each_snapshot(struct box *b, void (*fn)(void *arg, const struct snapshot_info *s), void *arg)
{
	const struct snapshot *s;
	TAILQ_FOREACH (s, &b->snapshots, entry) {
		struct snapshot_info i;
		get_info(s, &i);
		if (s->listed)
			fn(arg, &i);
	}
}

/* ---- making one ------------------------------------------------------------------------------------ */

static int insert(sqlite3 *db, void *arg, struct err *e)
{
	const struct snapshot *s = arg;
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int r = sql_prepare(db,
			    "INSERT INTO snapshots (id, box_id, name, layer, created_ms, disk_bytes, "
			    "size_bytes, pause_us)"
			    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			    &q, e);
	if (r < 0)
		return r;
	sql_bind_text(q, 1, s->id);
	sql_bind_text(q, 2, s->box->row.id);
	sql_bind_text(q, 3, s->name);
	sql_bind_text(q, 4, s->layer->id);
	sqlite3_bind_int64(q, 5, s->created_ms);
	sqlite3_bind_int64(q, 6, (sqlite3_int64)s->disk_bytes);
	sqlite3_bind_int64(q, 7, (sqlite3_int64)s->size_bytes);
	sqlite3_bind_int64(q, 8, (sqlite3_int64)s->pause_us);
	return sql_step(db, q, e);
}

static void on_inserted(void *arg, int status, const struct err *e)
{
	struct snapshot *s = arg;
	struct boxes *bs = s->box->boxes;
	snapshot_done_fn done = s->made;
	void *done_arg = s->arg;
	struct snapshot_info i;
	struct failure f;
	s->listed = status == 0;
	get_info(s, &i);
	if (status < 0) {
		box_store_failure(&f, status, e);
		layer_unref(s->layer);
		drop(s);
	}
	done(done_arg, status < 0 ? NULL : &i, status < 0 ? &f : NULL);
	boxes_unref(bs);
}

static void on_cut(void *arg, struct box *b, struct layer *frozen, uint64_t pause_us, const struct failure *f)
{
	struct snapshot *s = arg;
	if (f) {
		snapshot_done_fn done = s->made;
		void *done_arg = s->arg;
		drop(s);
		done(done_arg, NULL, f);
		return;
	}
	s->layer = frozen;
	s->created_ms = (int64_t)clock_ms(CLOCK_REALTIME);
	s->disk_bytes = (uint64_t)b->row.disk_size_gb << 30;
	s->size_bytes = layer_bytes(frozen);
	s->pause_us = pause_us;
	boxes_ref(b->boxes);
	store_submit(b->boxes->config.store, insert, on_inserted, s);
}

void box_snapshot(struct box *b, const char *name, snapshot_done_fn done, void *arg)
{
	struct failure f;
	unsigned n = 0;
	struct snapshot *s;
	TAILQ_FOREACH (s, &b->snapshots, entry)
		n++;
	if (find(b, name)) {
		box_failure(&f, FAIL_EXISTS, "a snapshot of that name exists");
		done(arg, NULL, &f);
		return;
	}
	s = n < SNAPSHOTS_MAX ? calloc(1, sizeof *s) : NULL;
	if (!s || !(s->name = strdup(name))) {
		free(s);
		box_failure(&f, FAIL_EXHAUSTED,
			    n < SNAPSHOTS_MAX ? "no memory" : "a box has at most %d snapshots",
			    SNAPSHOTS_MAX);
		done(arg, NULL, &f);
		return;
	}
	s->box = b;
	s->made = done;
	s->arg = arg;
	ulid_make(s->id);
	TAILQ_INSERT_TAIL(&b->snapshots, s, entry); /* the name is taken from now on */
	box_cut(b, on_cut, s);
}

/* ---- going back to one ----------------------------------------------------------------------------- */

struct restoring {
	snapshot_over_fn done;
	void *arg;
};

static void on_set_back(void *arg, struct box *b, struct layer *frozen, uint64_t pause_us,
			const struct failure *f)
{
	struct restoring *r = arg;
	(void)b;
	(void)frozen;
	(void)pause_us;
	r->done(r->arg, f);
	free(r);
}

void box_restore(struct box *b, const char *name, snapshot_over_fn done, void *arg)
{
	struct failure f;
	const struct snapshot *s = find(b, name);
	struct restoring *r = malloc(sizeof *r);
	if (!s || !s->listed || !r) {
		free(r);
		box_failure(&f, FAIL_NOT_FOUND, "the box has no snapshot of that name");
		done(arg, &f);
		return;
	}
	*r = (struct restoring){done, arg};
	box_set_back(b, s->layer, on_set_back, r);
}

/* ---- deleting one ---------------------------------------------------------------------------------- */

static int delete_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct snapshot *s = arg;
	return sql_run_for(db, "DELETE FROM snapshots WHERE id = ?", s->id, e);
}

static void on_deleted(void *arg, int status, const struct err *e)
{
	struct snapshot *s = arg;
	struct boxes *bs = s->box->boxes;
	snapshot_over_fn done = s->over;
	void *done_arg = s->arg;
	struct failure f;
	if (status < 0) {
		box_store_failure(&f, status, e);
		s->listed = true;
	} else {
		layer_unref(s->layer);
		drop(s);
		merge_kick(bs);
	}
	done(done_arg, status < 0 ? &f : NULL);
	boxes_unref(bs);
}

void box_delete_snapshot(struct box *b, const char *name, snapshot_over_fn done, void *arg)
{
	struct failure f;
	struct snapshot *s = find(b, name);
	if (!s || !s->listed) {
		box_failure(&f, FAIL_NOT_FOUND, "the box has no snapshot of that name");
		done(arg, &f);
		return;
	}
	s->listed = false;
	s->over = done;
	s->arg = arg;
	boxes_ref(b->boxes);
	store_submit(b->boxes->config.store, delete_row, on_deleted, s);
}

/* ---- start and end --------------------------------------------------------------------------------- */

int snapshots_load(sqlite3 *db, struct boxes *bs, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int r = sql_prepare(
		db,
		"SELECT id, box_id, name, layer, created_ms, disk_bytes, size_bytes, pause_us FROM snapshots"
		" ORDER BY id",
		&q, e);
	while (r >= 0 && (r = sql_step(db, q, e)) > 0) {
		struct box *b = boxes_find_id(bs, (const char *)sqlite3_column_text(q, 1));
		struct layer *l = layers_find(bs->layers, (const char *)sqlite3_column_text(q, 3));
		struct snapshot *s = b && l ? calloc(1, sizeof *s) : NULL;
		if (!s || !(s->name = sql_dup_text(q, 2))) {
			free(s);
			return err_set(e, "database", EINVAL,
				       "a snapshot has no box, or no disk, or there is no memory");
		}
		sql_copy_text(s->id, sizeof s->id, q, 0);
		s->box = b;
		s->layer = layer_ref(l);
		s->created_ms = sqlite3_column_int64(q, 4);
		s->disk_bytes = (uint64_t)sqlite3_column_int64(q, 5);
		s->size_bytes = (uint64_t)sqlite3_column_int64(q, 6);
		s->pause_us = (uint64_t)sqlite3_column_int64(q, 7);
		s->listed = true;
		TAILQ_INSERT_TAIL(&b->snapshots, s, entry);
	}
	return r;
}

void snapshots_drop(struct box *b, bool deleted)
{
	struct snapshot *s;
	while ((s = TAILQ_FIRST(&b->snapshots))) {
		if (deleted)
			layer_unref(s->layer);
		drop(s);
	}
}
