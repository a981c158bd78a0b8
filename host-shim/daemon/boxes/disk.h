/* A box's writable disk: a qcow2 file of its own, filled once from the template (an ext4 with room to grow, few of
 * whose blocks are used). A full copy, not a layer over the template: what `make` builds anew under a box would
 * otherwise be its file system's bottom. */
#pragma once

#include <uv.h>

#include "proto/err.h"

struct disk;

typedef void (*disk_done_fn)(void *arg, const struct err *e); /* e NULL: the disk is there */

/* Makes state_dir/upper.qcow2 unless it is there, complete or not at all. done runs exactly once, later. */
int disk_ensure(struct disk **out, uv_loop_t *loop, const char *template, const char *state_dir, unsigned size_gb,
		disk_done_fn done, void *arg, struct err *e);
/* done will not run. Not after it has. NULL is fine. */
void disk_cancel(struct disk *d);
