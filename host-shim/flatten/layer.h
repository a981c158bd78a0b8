/* One layer's blob, read from the first to the last byte: unpacked (gzip, zstd or plain, which its first
 * bytes tell), as a tar archive, and held against what the manifest and the config say of it. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stdint.h>

#include "host-shim/daemon/images/manifest.h"

#define LAYER_HEADER_MAX \
	(2u << 20) /* what may come before one entry's contents; libarchive keeps all of it */

struct layer {
	struct archive *tar, *raw; /* the archive, on the unpacked bytes, on the blob */
	int fd;
	const struct manifest_blob *blob;
	const char *diff_id;
	uint64_t *budget; /* unpacked bytes that may still come, of all layers */
	uint64_t packed, header;
	bool in_header, in_entry;
	struct sha256_ctx packed_sum, unpacked_sum;
	struct err failure; /* of a callback: libarchive passes on no more than that there was one */
	uint8_t in[65536], out[65536];
};

/* fd is read from its beginning, and stays the caller's, as do the rest. -errno. Finish *l in any case. */
int layer_open(struct layer *l, int fd, const struct manifest_blob *blob, const char *diff_id,
	       uint64_t *budget, struct err *e);
/* 1: *entry is the next, valid until the next call; 0: there is none; -errno. */
int layer_next(struct layer *l, struct archive_entry **entry, struct err *e);
/* The next piece of the entry's contents: 1, 0 at the end, -errno. offset may leave a hole before it. */
int layer_data(struct layer *l, const void **bytes, size_t *len, int64_t *offset, struct err *e);
/* After the last entry: reads what is left and compares sizes and digests. -EBADMSG. */
int layer_check(struct layer *l, struct err *e);
void layer_finish(struct layer *l);
