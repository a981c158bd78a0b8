#include "volumes.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/ulid.h"
#include "image.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "rows.h"

#define ID_PREFIX "vol_"
_Static_assert(sizeof ID_PREFIX + ULID_LENGTH == VOLUME_ID_SIZE, "the size of an id");
#define PART ".part"
#define IMAGE ".img"

struct volume {
	TAILQ_ENTRY(volume) entry;
	struct volume_row row;
	bool listed; /* committed, and not on its way out */
};

TAILQ_HEAD(volume_list, volume);

struct volumes {
	struct volumes_config config; /* loop and store */
	char *dir, *template;
	struct volume_list list;
	bool closing;
	unsigned refs; /* the owner, and every change on its way */
};

/* One volume on its way in or out: its steps alternate between libuv's threads and the store's. */
struct change {
	struct volumes *volumes;
	struct volume *volume;
	uv_work_t work;
	char *part, *image;
	int status;
	struct err err;
	volume_added_fn added; /* one of the two */
	volume_removed_fn removed;
	void *arg;
};

/* ---- memory ---------------------------------------------------------------------------------------- */

/* The list is ordered by id, which is by age but for a clock that was set back. Takes row; NULL: no memory.
 */
static struct volume *insert(struct volumes *vs, struct volume_row *row)
{
	struct volume *after = TAILQ_LAST(&vs->list, volume_list);
	struct volume *v = calloc(1, sizeof *v);
	if (!v) {
		volume_row_finish(row);
		return NULL;
	}
	v->row = *row;
	while (after && strcmp(after->row.id, v->row.id) > 0)
		after = TAILQ_PREV(after, volume_list, entry);
	if (after)
		TAILQ_INSERT_AFTER(&vs->list, after, v, entry);
	else
		TAILQ_INSERT_HEAD(&vs->list, v, entry);
	return v;
}

static void drop(struct volumes *vs, struct volume *v)
{
	TAILQ_REMOVE(&vs->list, v, entry);
	volume_row_finish(&v->row);
	free(v);
}

static void unref(struct volumes *vs)
{
	struct volume *v;
	if (--vs->refs > 0)
		return;
	while ((v = TAILQ_FIRST(&vs->list)))
		drop(vs, v);
	free(vs->dir);
	free(vs->template);
	free(vs);
}

static char *path_of(const struct volumes *vs, const char *id, const char *suffix)
{
	char *path;
	return asprintf(&path, "%s/%s%s", vs->dir, id, suffix) < 0 ? NULL : path;
}

static void fill_info(const struct volume *v, struct volume_info *out)
{
	*out = (struct volume_info){.id = v->row.id,
				    .prefix = v->row.prefix,
				    .name = v->row.name,
				    .created_ms = v->row.created_ms,
				    .used_ms = v->row.used_ms};
}

static struct volume *find(const struct volumes *vs, const char *prefix, const char *id_or_name)
{
	struct volume *v;
	TAILQ_FOREACH (v, &vs->list, entry)
		if (strcmp(v->row.prefix, prefix) == 0 &&
		    (strcmp(v->row.id, id_or_name) == 0 || strcmp(v->row.name, id_or_name) == 0))
			return v;
	return NULL;
}

static struct volume *find_listed(const struct volumes *vs, const char *prefix, const char *id_or_name)
{
	struct volume *v = find(vs, prefix, id_or_name);
	return v && v->listed ? v : NULL;
}

/* ---- from start to end ----------------------------------------------------------------------------- */

struct loading {
	struct volumes *volumes;
	bool failed;
};

static void take_row(void *arg, struct volume_row *row)
{
	struct loading *l = arg;
	struct volume *v = insert(l->volumes, row);
	if (v)
		v->listed = true;
	else
		l->failed = true;
}

static int load(sqlite3 *db, void *arg, struct err *e)
{
	return volume_row_each(db, take_row, arg, e);
}

static bool has_row(const struct volumes *vs, const char *id)
{
	const struct volume *v;
	TAILQ_FOREACH (v, &vs->list, entry)
		if (strcmp(v->row.id, id) == 0)
			return true;
	return false;
}

/* What the file of one name is left from. Only names of our own form are touched. */
static int settle(const struct volumes *vs, const char *name, struct err *e)
{
	char id[VOLUME_ID_SIZE];
	size_t len = sizeof id - 1;
	if (strnlen(name, len) < len || strncmp(name, ID_PREFIX, strlen(ID_PREFIX)) != 0)
		return 0;
	memcpy(id, name, len);
	id[len] = '\0';
	bool known = has_row(vs, id);
	if (!known && strcmp(name + len, IMAGE) == 0)
		fprintf(stderr, "tenond: %s/%s belongs to no volume that is known; it is left alone\n",
			vs->dir, name);
	if (strcmp(name + len, PART) != 0)
		return 0;
	_cleanup_free_ char *part = path_of(vs, id, PART), *image = path_of(vs, id, IMAGE);
	if (!part || !image)
		return err_sys(e, "volumes", ENOMEM, "volumes");
	if ((known ? rename(part, image) : unlink(part)) < 0)
		return err_sys(e, "volumes", errno, "%s", part);
	return 0;
}

static int settle_all(const struct volumes *vs, struct err *e)
{
	_cleanup_closedir_ DIR *dir = opendir(vs->dir);
	const struct dirent *entry;
	int r = dir ? 0 : err_sys(e, "volumes", errno, "%s", vs->dir);
	while (r == 0 && (entry = readdir(dir)))
		r = settle(vs, entry->d_name, e);
	return r;
}

int volumes_create(struct volumes **out, const struct volumes_config *c, struct err *e)
{
	struct volumes *vs = calloc(1, sizeof *vs);
	if (!vs)
		return err_sys(e, "volumes", ENOMEM, "volumes");
	vs->config = (struct volumes_config){.loop = c->loop, .store = c->store};
	vs->refs = 1;
	TAILQ_INIT(&vs->list);
	vs->template = strdup(c->template);
	if (asprintf(&vs->dir, "%s/volumes", c->state_dir) < 0)
		vs->dir = NULL;
	struct loading loading = {.volumes = vs};
	int r = vs->dir && vs->template ? 0 : err_sys(e, "volumes", ENOMEM, "volumes");
	if (r == 0 && mkdir(vs->dir, 0700) < 0 && errno != EEXIST)
		r = err_sys(e, "volumes", errno, "%s", vs->dir);
	if (r == 0)
		r = store_run(c->store, load, &loading, e);
	if (r == 0 && loading.failed)
		r = err_sys(e, "volumes", ENOMEM, "loading volumes");
	if (r == 0)
		r = settle_all(vs, e);
	if (r < 0) {
		unref(vs);
		return r;
	}
	*out = vs;
	return 0;
}

void volumes_destroy(struct volumes *vs)
{
	if (!vs)
		return;
	vs->closing = true;
	unref(vs);
}

/* ---- changes: what both ways share ------------------------------------------------------------------ */

static void change_free(struct change *c)
{
	free(c->part);
	free(c->image);
	free(c);
}

/* Takes row or v; NULL without memory, and the row is finished. */
static struct change *change_create(struct volumes *vs, struct volume *v, struct volume_row *row, void *arg)
{
	struct change *c = calloc(1, sizeof *c);
	const char *id = v ? v->row.id : row->id;
	if (c) {
		*c = (struct change){.volumes = vs, .arg = arg};
		c->work.data = c;
		c->part = path_of(vs, id, PART);
		c->image = path_of(vs, id, IMAGE);
	}
	bool whole = c && c->part && c->image;
	if (row && whole)
		whole = (v = insert(vs, row)) != NULL;
	else if (row)
		volume_row_finish(row);
	if (!whole) {
		if (c)
			change_free(c);
		return NULL;
	}
	c->volume = v;
	vs->refs++;
	return c;
}

static void change_end(struct change *c)
{
	struct volumes *vs = c->volumes;
	change_free(c);
	unref(vs);
}

/* tenond ends: nothing more is done, as if it had been killed here. */
static bool given_up(struct change *c)
{
	struct err e;
	if (!c->volumes->closing)
		return false;
	int status = err_set(&e, "volumes", ECANCELED, "tenond is ending");
	if (c->added)
		c->added(c->arg, NULL, status, &e);
	else
		c->removed(c->arg, status, &e);
	change_end(c);
	return true;
}

/* Unlinking a large file takes its time. */
static void unlink_part(uv_work_t *w)
{
	struct change *c = w->data;
	if (unlink(c->part) < 0 && errno != ENOENT)
		fprintf(stderr, "tenond: %s is not removed: %s\n", c->part, strerror(errno));
}

static int delete_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct change *c = arg;
	return volume_row_delete(db, c->volume->row.id, e);
}

/* ---- in: .part, row, .img --------------------------------------------------------------------------- */

static void on_undone(uv_work_t *w, int status)
{
	struct change *c = w->data;
	(void)status;
	drop(c->volumes, c->volume);
	if (!given_up(c)) {
		c->added(c->arg, NULL, c->status, &c->err);
		change_end(c);
	}
}

/* Without a row, whatever is left of it is nothing. */
static void undo(struct change *c, int status, const struct err *e)
{
	c->status = status;
	c->err = *e;
	uv_queue_work(c->volumes->config.loop, &c->work, unlink_part, on_undone);
}

static void on_row_undone(void *arg, int status, const struct err *e)
{
	struct change *c = arg;
	(void)e;
	if (status < 0)
		fprintf(stderr, "tenond: volume %s will be there when tenond starts again\n",
			c->volume->row.id);
	if (given_up(c))
		return;
	if (status == 0) {
		undo(c, c->status, &c->err);
		return;
	}
	c->added(c->arg, NULL, c->status, &c->err);
	change_end(c);
}

static void on_inserted(void *arg, int status, const struct err *e)
{
	struct change *c = arg;
	if (given_up(c))
		return;
	if (status < 0) {
		undo(c, status, e);
	} else if (rename(c->part, c->image) < 0) {
		c->status = err_sys(&c->err, "volume", errno, "%s", c->image);
		store_submit(c->volumes->config.store, delete_row, on_row_undone, c);
	} else {
		struct volume_info info;
		c->volume->listed = true;
		fill_info(c->volume, &info);
		c->added(c->arg, &info, 0, NULL);
		change_end(c);
	}
}

static int insert_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct change *c = arg;
	return volume_row_insert(db, &c->volume->row, e);
}

static void make_part(uv_work_t *w)
{
	struct change *c = w->data;
	c->status = image_make(c->part, c->volumes->template, (uint64_t)VOLUME_SIZE_GB << 30, &c->err);
}

static void on_made(uv_work_t *w, int status)
{
	struct change *c = w->data;
	(void)status; /* never cancelled */
	if (given_up(c))
		return;
	if (c->status < 0)
		undo(c, c->status, &c->err);
	else
		store_submit(c->volumes->config.store, insert_row, on_inserted, c);
}

void volumes_add(struct volumes *vs, const char *prefix, const char *name, volume_added_fn done, void *arg)
{
	struct err e;
	if (name && find(vs, prefix, name)) {
		done(arg, NULL, err_set(&e, "volume", EEXIST, "a volume named %.128s exists", name), &e);
		return;
	}
	if (volumes_count(vs, prefix) >= VOLUMES_MAX) {
		done(arg, NULL,
		     err_set(&e, "volume", EMFILE, "%d volumes are there, and no more may be", VOLUMES_MAX),
		     &e);
		return;
	}
	struct volume_row row = {.created_ms = (int64_t)clock_ms(CLOCK_REALTIME)};
	strcpy(row.id, ID_PREFIX);
	ulid_make(row.id + strlen(ID_PREFIX));
	row.prefix = strdup(prefix);
	row.name = strdup(name ? name : row.id);
	struct change *c = NULL;
	if (row.prefix && row.name)
		c = change_create(vs, NULL, &row, arg);
	else
		volume_row_finish(&row);
	if (!c) {
		done(arg, NULL, err_set(&e, "volume", ENOMEM, "no memory"), &e);
		return;
	}
	c->added = done;
	uv_queue_work(vs->config.loop, &c->work, make_part, on_made);
}

/* ---- out: .part, no row, nothing --------------------------------------------------------------------- */

static void on_removed(uv_work_t *w, int status)
{
	struct change *c = w->data;
	(void)status;
	drop(c->volumes, c->volume);
	if (given_up(c))
		return;
	c->removed(c->arg, 0, NULL);
	change_end(c);
}

static void on_deleted(void *arg, int status, const struct err *e)
{
	struct change *c = arg;
	if (given_up(c))
		return;
	if (status == 0) {
		uv_queue_work(c->volumes->config.loop, &c->work, unlink_part, on_removed);
		return;
	}
	/* What cannot be renamed back is when tenond starts again. */
	c->volume->listed = rename(c->part, c->image) == 0;
	c->removed(c->arg, status, e);
	change_end(c);
}

void volumes_remove(struct volumes *vs, const char *prefix, const char *id, volume_removed_fn done, void *arg)
{
	struct err e;
	struct volume *v = find_listed(vs, prefix, id);
	if (!v) {
		done(arg, err_set(&e, "volume", ENOENT, "no volume %.128s", id), &e);
		return;
	}
	struct change *c = change_create(vs, v, NULL, arg);
	if (!c) {
		done(arg, err_set(&e, "volume", ENOMEM, "no memory"), &e);
		return;
	}
	c->removed = done;
	/* A disk that is gone already leaves only the row to remove. */
	if (rename(c->image, c->part) < 0 && errno != ENOENT) {
		done(arg, err_sys(&e, "volume", errno, "%s", c->image), &e);
		change_end(c);
		return;
	}
	v->listed = false;
	store_submit(vs->config.store, delete_row, on_deleted, c);
}

/* ---- questions --------------------------------------------------------------------------------------- */

bool volumes_find(struct volumes *vs, const char *prefix, const char *id_or_name, struct volume_info *out)
{
	const struct volume *v = find_listed(vs, prefix, id_or_name);
	if (v)
		fill_info(v, out);
	return v;
}

void volumes_each(struct volumes *vs, const char *prefix, void (*fn)(void *arg, const struct volume_info *v),
		  void *arg)
{
	struct volume *v, *next;
	for (v = TAILQ_FIRST(&vs->list); v; v = next) {
		struct volume_info info;
		next = TAILQ_NEXT(v, entry);
		if (!v->listed || strcmp(v->row.prefix, prefix) != 0)
			continue;
		fill_info(v, &info);
		fn(arg, &info);
	}
}

unsigned volumes_count(const struct volumes *vs, const char *prefix)
{
	unsigned n = 0;
	const struct volume *v;
	TAILQ_FOREACH (v, &vs->list, entry)
		n += strcmp(v->row.prefix, prefix) == 0;
	return n;
}

/* ---- use --------------------------------------------------------------------------------------------- */

struct use {
	char id[VOLUME_ID_SIZE];
	int64_t used_ms;
};

static int write_use(sqlite3 *db, void *arg, struct err *e)
{
	const struct use *u = arg;
	return volume_row_set_used(db, u->id, u->used_ms, e);
}

static void on_use_written(void *arg, int status, const struct err *e)
{
	struct use *u = arg;
	if (status < 0)
		fprintf(stderr, "tenond: volume %s: its use is not noted: %s\n", u->id, e->msg);
	free(u);
}

int volumes_use(struct volumes *vs, const char *prefix, const char *id, char *path, size_t cap)
{
	struct volume *v = find_listed(vs, prefix, id);
	struct use *u = v ? malloc(sizeof *u) : NULL;
	if (!v)
		return -ENOENT;
	if (!u)
		return -ENOMEM;
	snprintf(path, cap, "%s/%s%s", vs->dir, v->row.id, IMAGE);
	v->row.used_ms = (int64_t)clock_ms(CLOCK_REALTIME);
	*u = (struct use){.used_ms = v->row.used_ms};
	strcpy(u->id, v->row.id);
	store_submit(vs->config.store, write_use, on_use_written, u);
	return 0;
}
