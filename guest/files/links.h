/* Hard links: the name under which a file was packed first. Bounded; what no longer fits is packed as files
 * of their own. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "guest/memory.h"

#define LINKS_SLOTS 16384 /* a power of two; filled to three quarters */
#define LINKS_BYTES (1024 * 1024)

struct links {
	struct links_slot {
		dev_t dev;
		ino_t ino;
		const char *path; /* NULL: free */
	} * slots;
	unsigned n;
	struct bump paths;
};

/* Its memory is touched only when used. -ENOMEM. */
int links_init(struct links *l);
void links_finish(struct links *l);

/* The path that this file already has, or NULL: then it has this one from now on. */
const char *links_find(struct links *l, const struct stat *st, const char *path);
