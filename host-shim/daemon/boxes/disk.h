/* A box's first writable disk: a qcow2 file of its own, filled once from the template (an ext4 with room to
 * grow, few of whose blocks are used). A full copy, not a layer over the template: what `make` builds anew
 * under a box would otherwise be its file system's bottom. */
#pragma once

#include <stdbool.h>

#include "host-shim/daemon/disks/img.h"
#include "host-shim/daemon/disks/layers.h"

/* Makes the layer's file unless it is there, complete or not at all. With `mend`, what is there is cleared of
 * clusters that a QEMU that was killed had taken and not yet used. done as in img_config. */
int disk_ensure(struct img **out, uv_loop_t *loop, const char *template, const struct layer *l,
		unsigned size_gb, bool mend, void (*done)(void *arg, const struct err *e), void *arg,
		struct err *e);
/* Makes the file of a layer that lies on another: an empty overlay, of which nothing is read meanwhile, so
 * that the one below may be in use. */
int disk_overlay(struct img **out, uv_loop_t *loop, const struct layer *l, unsigned size_gb,
		 void (*done)(void *arg, const struct err *e), void *arg, struct err *e);
