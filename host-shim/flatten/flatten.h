/* An image's layers as one tar. Each layer is read twice: first for the tree that they add up to, and to see
 * that they are what manifest and config say; then for the contents of what is left. Nothing is written
 * before all of them have been read once. */
#pragma once

#include "host-shim/daemon/images/config.h"
#include "host-shim/daemon/images/manifest.h"
#include "tree.h"

struct flatten_limits {
	struct tree_limits tree;
	uint64_t bytes; /* of all layers unpacked, and of all files in them, holes included */
};

/* blobs: one open file for each layer, in order, from whose beginning it is read. Writes to the descriptor
 * out. -errno, with e naming layer and entry; -EPIPE if nobody reads out. */
int flatten(const struct manifest *m, const struct oci_config *c, const int *blobs,
	    const struct flatten_limits *l, int out, struct err *e);
