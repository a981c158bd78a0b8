/* Snapshots of a box's disk, by name, and boxes made of another's disk. A snapshot is a layer that nobody
 * writes into any more: making one of a box that does not run costs an empty file, and of one that runs a
 * pause of milliseconds, in which its processes and its file system are frozen; its memory is not kept.
 * Volumes are disks of their own and have no part in it.
 *
 * A snapshot that is deleted leaves a layer behind that others may lie on. It becomes one with the layer
 * above it when nobody else needs it and no VM has it open (merge.c). */
#pragma once

#include "host-shim/daemon/boxes/boxes.h"
#include "host-shim/daemon/disks/layers.h"

#define SNAPSHOT_NAME_MAX 128
#define SNAPSHOTS_MAX 256 /* of a box */

struct snapshot_info { /* borrowed */
	const char *id, *box_id, *name;
	int64_t created_ms;
	uint64_t disk_bytes; /* what the box sees of it */
	uint64_t size_bytes; /* what its own layer took on the host when it was made */
	uint64_t pause_us;   /* how long the box stood still; 0: it did not run */
};
typedef void (*snapshot_done_fn)(void *arg, const struct snapshot_info *s, const struct failure *f);
typedef void (*snapshot_over_fn)(void *arg, const struct failure *f);

/* FAIL_EXISTS if there is one of that name. */
void box_snapshot(struct box *b, const char *name, snapshot_done_fn done, void *arg);
bool box_find_snapshot(struct box *b, const char *name, struct snapshot_info *out);
/* Oldest first. */
void box_each_snapshot(struct box *b, void (*fn)(void *arg, const struct snapshot_info *s), void *arg);
/* The box's disk is the snapshot's again; what was written since is lost. FAIL_CONFLICT while it runs. */
void box_restore(struct box *b, const char *name, snapshot_over_fn done, void *arg);
void box_delete_snapshot(struct box *b, const char *name, snapshot_over_fn done, void *arg);
/* A new box with the settings of b and its disk as it is now; name may be NULL. Neither depends on the other:
 * the layers below both stay as long as one of them needs them. */
void box_clone(struct box *b, const char *name, box_done_fn done, void *arg);

/* ---- for archives/ ---- */

/* The box's disk as it is now, frozen: a layer that nobody writes into any more, with a reference that is the
 * callee's, who counts as a reader of it (layer->readers) while it reads; the box goes on in a new one upon
 * it. Of a running box the guest is quiesced, for pause_us. f NULL: done. */
typedef void (*box_cut_fn)(void *arg, struct box *b, struct layer *frozen, uint64_t pause_us,
			   const struct failure *f);
void box_cut(struct box *b, box_cut_fn done, void *arg);
#define BOX_PATH_MAX 4096
/* The read-only image below its disk. */
void box_lower_path(const struct box *b, char out[BOX_PATH_MAX]);
struct layers *boxes_layers(struct boxes *bs);
/* A reader is through: what waited for it may go on. */
void boxes_layer_read(struct boxes *bs, struct layer *l);
/* As boxes_add, with a disk that is there: a layer that lies on none, whose reference it takes also when it
 * fails. */
void boxes_add_with(struct boxes *bs, const struct box_spec *spec, struct layer *disk, box_done_fn done,
		    void *arg);
