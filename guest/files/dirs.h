/* The directories that an archive is being unpacked into: the way down to the one it is at, each open. A
 * directory's own time and mode are put in place when the archive leaves it, the deepest first: so an archive
 * in depth-first order, as every packer writes it, takes memory for its depth only. A directory that an
 * archive comes back to later has the time of that. */
#pragma once

#include "guest/files/attributes.h"
#include "guest/files/where.h"

#define DIRS_DEPTH_MAX 1024 /* one descriptor each */

struct dirs_level {
	int fd;
	size_t len; /* of path up to and with it */
	bool finish;
	struct attributes attributes;
};

struct dirs {
	struct where top;   /* base is levels[0].fd */
	struct owner owner; /* of parents that the archive does not name */
	char path[PATH_MAX];
	unsigned depth;
	struct dirs_level levels[DIRS_DEPTH_MAX + 1];
};

/* Takes fd, where all goes beneath; but for a file system's root no link leads out of it. */
void dirs_init(struct dirs *d, int fd, const struct owner *owner);

/* The n bytes of path as a directory, made with its parents if it is missing. A descriptor that lasts until
 * the next call, or -errno. */
int dirs_enter(struct dirs *d, const char *path, size_t n);

/* The directory that `path` (n bytes, at least one) names, in the one entered: made, or there already.
 * Becomes the one entered. fresh: it was made. What is there and no directory: -ENOTDIR. */
int dirs_make(struct dirs *d, const char *path, size_t n, bool *fresh);

/* What the one entered is to have in the end. */
void dirs_finish_with(struct dirs *d, const struct attributes *a);

/* Leaves them all. The first failure: -errno with *stage, and d->path is that one's. */
int dirs_leave(struct dirs *d, const char **stage);
