#include "layers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/store/sql.h"
#include "proto/cleanup.h"

#define SUFFIX ".qcow2"
#define ID_CHARACTERS "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

struct layers {
	uv_loop_t *loop;
	struct store *store;
	char *folder;
	LIST_HEAD(, layer) list;
	bool settled;     /* before, nothing is removed: who holds what is not known */
	unsigned pending; /* removals on their way to the store: the last frees after destroy */
	bool closing;
};

/* ---- rows ------------------------------------------------------------------------------------------ */

int layer_insert(sqlite3 *db, const char *id, const char *below, bool written, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "INSERT INTO layers (id, below, written) VALUES (?, ?, ?)", &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, id);
	sql_bind_text(s, 2, below);
	sqlite3_bind_int(s, 3, written);
	return sql_step(db, s, e);
}

int layer_set_written(sqlite3 *db, const char *id, struct err *e)
{
	return sql_run_for(db, "UPDATE layers SET written = 1 WHERE id = ?", id, e);
}

static int delete_row(sqlite3 *db, const char *id, struct err *e)
{
	return sql_run_for(db, "DELETE FROM layers WHERE id = ?", id, e);
}

int layer_absorb(sqlite3 *db, const char *id, const char *above, const char *below, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "UPDATE layers SET below = ?, written = 1 WHERE id = ?", &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, below);
	sql_bind_text(s, 2, above);
	r = sql_step(db, s, e);
	return r < 0 ? r : delete_row(db, id, e);
}

/* ---- in memory ------------------------------------------------------------------------------------- */

static struct layer *add(struct layers *ls, const char *id)
{
	struct layer *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->layers = ls;
	snprintf(l->id, sizeof l->id, "%s", id);
	LIST_INSERT_HEAD(&ls->list, l, entry);
	return l;
}

static void put_on(struct layer *l, struct layer *below)
{
	l->below = below;
	if (!below)
		return;
	below->refs++;
	below->above++;
}

struct layer *layers_find(struct layers *ls, const char *id)
{
	struct layer *l;
	LIST_FOREACH (l, &ls->list, entry)
		if (strcmp(l->id, id) == 0)
			return l;
	return NULL;
}

struct layer *layers_first(struct layers *ls)
{
	return LIST_FIRST(&ls->list);
}

struct layer *layers_make(struct layers *ls, struct layer *below)
{
	char id[ULID_LENGTH + 1];
	ulid_make(id);
	struct layer *l = add(ls, id);
	if (!l)
		return NULL;
	put_on(l, below);
	l->refs = 1;
	return l;
}

struct layer *layer_ref(struct layer *l)
{
	l->refs++;
	return l;
}

unsigned layer_depth(const struct layer *l)
{
	unsigned n = 0;
	for (; l; l = l->below)
		n++;
	return n;
}

bool layer_rests_on(const struct layer *l, const struct layer *other)
{
	while (l && l != other)
		l = l->below;
	return l;
}

void layer_path(const struct layer *l, char out[LAYERS_PATH_MAX])
{
	snprintf(out, LAYERS_PATH_MAX, "%s/%s" SUFFIX, l->layers->folder, l->id);
}

void layer_part(const struct layer *l, char out[LAYERS_PATH_MAX])
{
	snprintf(out, LAYERS_PATH_MAX, "%s/%s" SUFFIX ".part", l->layers->folder, l->id);
}

uint64_t layer_bytes(const struct layer *l)
{
	char path[LAYERS_PATH_MAX];
	struct stat st;
	layer_path(l, path);
	return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* ---- the end of one -------------------------------------------------------------------------------- */

struct removal {
	struct layers *layers;
	struct layer *below;
	char id[ULID_LENGTH + 1];
	char path[LAYERS_PATH_MAX];
	uv_fs_t unlink;
};

static void free_layers(struct layers *ls)
{
	struct layer *l;
	while ((l = LIST_FIRST(&ls->list))) {
		LIST_REMOVE(l, entry);
		free(l);
	}
	free(ls->folder);
	free(ls);
}

static void let_go(struct layers *ls)
{
	if (--ls->pending == 0 && ls->closing)
		free_layers(ls);
}

static int remove_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct removal *r = arg;
	return delete_row(db, r->id, e);
}

static void on_unlinked(uv_fs_t *req)
{
	struct removal *r = req->data;
	uv_fs_req_cleanup(req);
	free(r);
}

static void on_row_removed(void *arg, int status, const struct err *e)
{
	struct removal *r = arg;
	struct layers *ls = r->layers;
	struct layer *below = r->below;
	if (status < 0) {
		/* The next start finds that nobody holds it. */
		fprintf(stderr, "tenond: layer %s is not removed: %s\n", r->id, e->msg);
		free(r);
	} else if (ls->closing) {
		unlink(r->path);
		free(r);
	} else {
		r->unlink.data = r;
		if (uv_fs_unlink(ls->loop, &r->unlink, r->path, on_unlinked) < 0)
			free(r);
	}
	if (below && !ls->closing) {
		below->above--;
		layer_unref(below);
	}
	let_go(ls);
}

void layer_unref(struct layer *l)
{
	if (!l || --l->refs > 0 || !l->layers->settled || l->layers->closing)
		return;
	struct removal *r = malloc(sizeof *r);
	LIST_REMOVE(l, entry);
	/* Without memory it stays on disk until the next start. */
	if (r) {
		*r = (struct removal){.layers = l->layers, .below = l->below};
		strcpy(r->id, l->id);
		layer_path(l, r->path);
		l->layers->pending++;
		store_submit(l->layers->store, remove_row, on_row_removed, r);
	}
	free(l);
}

void layer_absorbed(struct layer *l, struct layer *above)
{
	above->below = l->below; /* l's reference to it is above's now */
	above->written = true;
	LIST_REMOVE(l, entry);
	free(l);
}

/* ---- start and end --------------------------------------------------------------------------------- */

struct loading {
	struct layers *layers;
	bool failed;
};

static int load(sqlite3 *db, void *arg, struct err *e)
{
	struct loading *load = arg;
	struct layers *ls = load->layers;
	_cleanup_stmt_ sqlite3_stmt *s = NULL, *links = NULL;
	int r = sql_prepare(db, "SELECT id, written FROM layers ORDER BY id", &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		struct layer *l = add(ls, (const char *)sqlite3_column_text(s, 0));
		if (!l)
			return err_sys(e, "database", ENOMEM, "layers");
		l->written = sqlite3_column_int(s, 1);
	}
	if (r >= 0)
		r = sql_prepare(db, "SELECT id, below FROM layers WHERE below != ''", &links, e);
	while (r >= 0 && (r = sql_step(db, links, e)) > 0) {
		const char *id = (const char *)sqlite3_column_text(links, 0);
		struct layer *l = layers_find(ls, id);
		struct layer *below = layers_find(ls, (const char *)sqlite3_column_text(links, 1));
		if (!below)
			return err_set(e, "database", EINVAL, "layer %s lies on one that has no row", id);
		put_on(l, below);
	}
	return r;
}

int layers_create(struct layers **out, uv_loop_t *loop, struct store *store, const char *state_dir,
		  struct err *e)
{
	struct layers *ls = calloc(1, sizeof *ls);
	if (!ls || asprintf(&ls->folder, "%s/disks", state_dir) < 0) {
		free(ls);
		return err_sys(e, "disks", ENOMEM, "layers");
	}
	ls->loop = loop;
	ls->store = store;
	LIST_INIT(&ls->list);
	int r = 0;
	/* An absolute path: QEMU and qemu-img are told of it wherever they run. */
	if (mkdir(ls->folder, 0700) < 0 && errno != EEXIST)
		r = err_sys(e, "disks", errno, "%s", ls->folder);
	char *real = r == 0 ? realpath(ls->folder, NULL) : NULL;
	if (r == 0 && !real)
		r = err_sys(e, "disks", errno, "%s", ls->folder);
	if (r == 0) {
		free(ls->folder);
		ls->folder = real;
		/* store_run waits for the store's thread: made there is as good as made here. */
		struct loading loading = {.layers = ls};
		r = store_run(store, load, &loading, e);
	}
	if (r < 0) {
		free_layers(ls);
		return r;
	}
	*out = ls;
	return 0;
}

void layers_destroy(struct layers *ls)
{
	if (!ls)
		return;
	ls->closing = true;
	if (!ls->pending)
		free_layers(ls);
}

static bool has_file(const struct layer *l)
{
	char path[LAYERS_PATH_MAX];
	layer_path(l, path);
	return access(path, F_OK) == 0;
}

static struct layer *the_one_above(struct layers *ls, const struct layer *l)
{
	struct layer *a;
	LIST_FOREACH (a, &ls->list, entry)
		if (a->below == l)
			return a;
	return NULL;
}

struct absorption {
	char id[ULID_LENGTH + 1], above[ULID_LENGTH + 1], below[ULID_LENGTH + 1];
};

static int absorb(sqlite3 *db, void *arg, struct err *e)
{
	const struct absorption *a = arg;
	return layer_absorb(db, a->id, a->above, a->below, e);
}

static void on_absorbed(void *arg, int status, const struct err *e)
{
	if (status < 0)
		fprintf(stderr, "tenond: a layer's row is not mended: %s\n", e->msg);
	free(arg);
}

/* A merge was at its end: the file has the name of the layer above already, the rows do not say so. */
static void mend_merges(struct layers *ls)
{
	struct layer *l, *next;
	for (l = LIST_FIRST(&ls->list); l; l = next) {
		next = LIST_NEXT(l, entry);
		if (l->refs != 1 || l->above != 1 || has_file(l))
			continue;
		struct layer *above = the_one_above(ls, l);
		struct absorption *a = calloc(1, sizeof *a);
		if (!above || !a || !has_file(above)) {
			free(a);
			continue;
		}
		strcpy(a->id, l->id);
		strcpy(a->above, above->id);
		strcpy(a->below, l->below ? l->below->id : "");
		layer_absorbed(l, above);
		store_submit(ls->store, absorb, on_absorbed, a);
	}
}

/* Names of our form alone: what somebody else has put here stays. */
static void sweep(struct layers *ls)
{
	_cleanup_closedir_ DIR *dir = opendir(ls->folder);
	const struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char id[ULID_LENGTH + 1] = "";
		const char *rest = entry->d_name + ULID_LENGTH;
		if (strspn(entry->d_name, ID_CHARACTERS) != ULID_LENGTH)
			continue;
		memcpy(id, entry->d_name, ULID_LENGTH);
		bool whole = strcmp(rest, SUFFIX) == 0;
		if ((whole && !layers_find(ls, id)) || strcmp(rest, SUFFIX ".part") == 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
}

void layers_settle(struct layers *ls)
{
	struct layer *l, *next;
	sweep(ls);
	mend_merges(ls);
	ls->settled = true;
	for (l = LIST_FIRST(&ls->list); l; l = next) {
		next = LIST_NEXT(l, entry);
		if (l->refs == 0) {
			l->refs = 1;
			layer_unref(l);
		}
	}
}
