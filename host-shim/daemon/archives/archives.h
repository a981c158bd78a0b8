/* A box as one file, to be taken elsewhere: a zstd-compressed tar of three members, in this order.
 *
 *   manifest.json    what the box is, and of the other two the size and SHA-256; at most ARCHIVE_MANIFEST_MAX
 *   disk.extents     its disk, all layers in one: pieces of what is written, see pieces.h
 *   image.squashfs   the read-only image below it
 *
 * Names are fixed and nothing is unpacked by name. No format that could refer to a file of the host (as qcow2
 * can) is in it. Neither volumes nor snapshots are; memory and what runs are not either.
 *
 * A thread each does the reading, compressing and hashing, at the other end of a pipe; the loop never waits.
 */
#pragma once

#include "host-shim/daemon/boxes/snapshots.h"
#include "host-shim/daemon/images/images.h"

#define ARCHIVES_AT_ONCE 4 /* both ways together; more are FAIL_EXHAUSTED */

struct archives;
struct archives_config {
	uv_loop_t *loop;
	struct boxes *boxes;
	struct images *images;
	const char *state_dir; /* copied */
};
/* Removes what a crash left. */
int archives_create(struct archives **out, const struct archives_config *c, struct err *e);
void archives_destroy(struct archives *as); /* after the last transfer was closed; NULL is fine */

/* ---- out ---- */
struct archive_out;
enum archive_state { ARCHIVE_WAIT, ARCHIVE_DATA, ARCHIVE_END, ARCHIVE_FAILED };
/* Never fails by itself. wake: archive_out_read may have something. */
struct archive_out *archive_out(struct archives *as, struct box *b, void (*wake)(void *arg), void *arg);
/* Up to max bytes into buf, *len of them, with DATA. max 0 asks whether there are some. FAILED: *f says why;
 * after the first bytes it means that what was sent is not whole. */
enum archive_state archive_out_read(struct archive_out *o, void *buf, size_t max, size_t *len,
				    struct failure *f);
/* At any time; what is not needed any more ends by itself. */
void archive_out_close(struct archive_out *o);

/* ---- in ---- */
struct archive_in;
/* prefix: whose box it becomes; name: NULL: that of the archive, or none if that is taken. may_add is asked
 * when all of it is here, just before the box is added. */
struct archive_in *archive_in(struct archives *as, const char *prefix, const char *name,
			      bool (*may_add)(void *arg, const char *prefix, struct failure *f),
			      void (*wake)(void *arg), void *arg);
/* Takes some of n bytes; less than n: wake tells when there is room again. */
size_t archive_in_write(struct archive_in *i, const void *bytes, size_t n);
void archive_in_write_end(struct archive_in *i);
/* END: *box is the new one. */
enum archive_state archive_in_result(struct archive_in *i, struct box **box, struct failure *f);
void archive_in_close(struct archive_in *i);
