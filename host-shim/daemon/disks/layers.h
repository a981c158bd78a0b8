/* The disks of boxes as a forest of qcow2 files, each but the lowest an overlay of the one it lies on. A box
 * writes into one layer, its own; a snapshot names one that nobody writes into any more. Whoever needs a
 * layer holds a reference to it, and a layer one to that below it; what loses its last one is removed, row
 * first.
 *
 * The files lie in one folder, <state>/disks/<id>.qcow2, and name each other without a path, so that the
 * state can be moved. A file may be there without its row (a crash came between: swept at the next start) and
 * the other way round only for a box that was never started. */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "host-shim/daemon/boxes/ulid.h"
#include "host-shim/daemon/store/store.h"
#include "proto/err.h"

/* How many may lie on one another: QEMU opens all of them, each with a cache of its own. */
#define LAYERS_DEPTH_MAX 64
#define LAYERS_PATH_MAX 4096

struct layers;
struct layer {
	LIST_ENTRY(layer) entry;
	struct layers *layers;
	struct layer *below;
	char id[ULID_LENGTH + 1];
	unsigned refs, above; /* of refs: those of layers that lie on it */
	unsigned readers;     /* programs that have it open, other than a box's VM */
	bool written;         /* a VM has had it: it may hold something */
	bool merging;         /* is to become one with the one above */
};

/* Makes the folder and loads the rows; nobody holds a layer yet. Waits: before the loop runs. */
int layers_create(struct layers **out, uv_loop_t *loop, struct store *store, const char *state_dir,
		  struct err *e);
/* Once all that hold some have been loaded: repairs what a crash left between a file and its row, removes
 * layers that nobody holds and files that nobody knows. */
void layers_settle(struct layers *ls);
/* tenond ends: everything stays on disk. NULL is fine. */
void layers_destroy(struct layers *ls);

struct layer *layers_find(struct layers *ls, const char *id);
/* A new one, in memory: the caller's one reference. NULL: no memory. */
struct layer *layers_make(struct layers *ls, struct layer *below);
struct layer *layers_first(struct layers *ls);
struct layer *layer_ref(struct layer *l);
/* NULL is fine. */
void layer_unref(struct layer *l);
unsigned layer_depth(const struct layer *l); /* 1: the lowest */
/* Whether l is `other` or lies on it. */
bool layer_rests_on(const struct layer *l, const struct layer *other);
void layer_path(const struct layer *l, char out[LAYERS_PATH_MAX]);
/* The same with ".part": what is being made. */
void layer_part(const struct layer *l, char out[LAYERS_PATH_MAX]);
/* Bytes that its file takes of the host's disk; 0 if it is not there. */
uint64_t layer_bytes(const struct layer *l);
/* above has taken in l, which lies nowhere any more: its file is above's. Memory only. */
void layer_absorbed(struct layer *l, struct layer *above);

/* ---- store work ---- */
int layer_insert(sqlite3 *db, const char *id, const char *below, bool written, struct err *e);
int layer_set_written(sqlite3 *db, const char *id, struct err *e);
/* l's row goes, above lies on what l lay on. */
int layer_absorb(sqlite3 *db, const char *id, const char *above, const char *below, struct err *e);
