/* The files of one log as the writer thread handles them: chunks written at their place, oldest segments
 * deleted. Blocking. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct logfile {
	char *dir;
	int fd; /* of `segment`, -1 if none is open */
	uint64_t segment;
	bool failed; /* a chunk was lost: none must follow it before one mends it */
};

/* Where a chunk belongs. */
struct log_place {
	uint64_t segment; /* name of the file */
	uint64_t at;      /* where in it; 0 makes the file */
	bool mends;       /* the first chunk after a failure, laid out anew from there */
	uint64_t spare;   /* segments below this may be deleted if the disk is full */
};

/* Copies dir; touches no disk. NULL without memory. */
struct logfile *logfile_create(const char *dir);
void logfile_destroy(struct logfile *f); /* NULL is fine */

/* Writes len bytes, making directory and file if they are not there. When the disk is full spare segments go,
 * and *deleted says below which position. -errno if it cannot be done: nothing of the chunk is left in the
 * file then; -ECANCELED if an earlier one failed and this one does not mend it. */
int logfile_write(struct logfile *f, const struct log_place *place, const uint8_t *buf, size_t len,
		  uint64_t *deleted);
/* Until the next write. */
void logfile_close(struct logfile *f);
/* Deletes every segment below a position, oldest first. */
void logfile_delete(const char *dir, uint64_t below);
