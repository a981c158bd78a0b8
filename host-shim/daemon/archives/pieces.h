/* disk.extents: what is written of a disk, without what is not. Pieces in ascending order, each a head of two
 * little-endian 64-bit numbers, offset and length, and so many bytes; a head of the disk's size and 0 ends
 * it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/err.h"

#define PIECE_HEAD 16
#define PIECE_MAX (1u << 20)

void piece_put_head(uint8_t out[PIECE_HEAD], uint64_t offset, uint64_t len);
/* The next piece of a sparse file at or after *at, of at most PIECE_MAX: 1 with *at and *len, 0 after the
 * last. */
int piece_find(int fd, uint64_t size, uint64_t *at, uint64_t *len, struct err *e);

/* Takes them apart again, in whatever portions they come. */
struct pieces {
	int fd;                 /* of a file, sparse so far */
	uint64_t size;          /* of the disk */
	uint64_t at, left, end; /* of the piece; end of the one before */
	uint8_t head[PIECE_HEAD];
	unsigned head_len;
	bool over;
};
/* -EINVAL for pieces that are out of order, too long or beyond the disk, or after the end. -ENOSPC. */
int pieces_take(struct pieces *p, const uint8_t *bytes, size_t n, struct err *e);
