/* One segment file of an execution log: its name, and a buffered walk over its records. Used by the writer
 * thread to recover a log and by readers on the loop thread. */
#pragma once

#include "host-shim/daemon/executions/record.h"
#include "proto/err.h"

#define SEGMENT_NAME_SIZE 21 /* "%016x.log" and NUL */
#define SEGMENT_BUFFER LOG_PAYLOAD_MAX
#define SEGMENT_AHEAD 4096 /* read at once: data that is longer stays in the file until it is wanted */

void segment_name(char out[SEGMENT_NAME_SIZE], uint64_t position);
/* The position that a file name stands for; false if it is not a segment's. */
bool segment_parse_name(const char *name, uint64_t *position);

struct segment_walk {
	int fd;        /* -1: not open */
	uint8_t *buf;  /* SEGMENT_BUFFER bytes, made at the first open and kept */
	uint64_t base; /* file offset of buf[0] */
	size_t start, end;
	uint64_t size; /* the file has at least so many bytes */
};

void segment_walk_init(struct segment_walk *w);
void segment_walk_finish(struct segment_walk *w);
/* Opens <dir>/<position>.log, closing what was open, and checks the header: magic, crc, id, position. -ENOENT
 * if there is no such file, -EBADMSG if the header is short or wrong. */
int segment_walk_open(struct segment_walk *w, const char *dir, const uint8_t id[LOG_ID_SIZE],
		      uint64_t position, struct segment_header *h);
void segment_walk_close(struct segment_walk *w);
/* The next record that lies wholly below file offset `limit`: 1, with *payload valid until the next call, or
 * NULL for data that was not read (SEGMENT_AHEAD) and ends in the file where segment_walk_tell says; 0 if
 * there is none (yet); -EBADMSG if its header does not hold; -errno from pread(2) or fstat(2). */
int segment_walk_next(struct segment_walk *w, uint64_t limit, struct record *r, const uint8_t **payload);
/* Reads len bytes, at most SEGMENT_BUFFER, of data that segment_walk_next has just left in the file; *data is
 * valid until the next call. -EIO if they are not there, or -errno. */
int segment_walk_load(struct segment_walk *w, uint64_t at, size_t len, const uint8_t **data);
/* File offset behind the last record handed out. */
uint64_t segment_walk_tell(const struct segment_walk *w);
