/* A log that never outgrows two files: `name` and, before it, `name.1`. Its newest bytes are always there. */
#pragma once

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct rotlog {
	int dir; /* borrowed */
	int fd;
	char name[32];
	size_t size, limit; /* bytes of the current file; where it becomes name.1 */
	uint64_t total;     /* bytes since rotlog_open */
};

/* Opens an empty log in the directory; one that a former run left there becomes name.1. limit: bytes per
 * file. */
int rotlog_open(struct rotlog *log, int dir, const char *name, size_t limit, struct err *e);
void rotlog_close(struct rotlog *log);

/* Appends. What a full disk refuses is lost; the writer is never held up for it. */
void rotlog_write(struct rotlog *log, const void *data, size_t len);

/* The newest bytes of this run, at most cap. Returns how many, or -errno. */
ssize_t rotlog_tail(const struct rotlog *log, void *buf, size_t cap);
