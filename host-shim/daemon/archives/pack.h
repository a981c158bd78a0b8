/* Writes an archive into a pipe. On a thread of its own: everything here may block. */
#pragma once

#include <jansson.h>
#include <stdatomic.h>

#include "proto/err.h"

struct pack {
	json_t *manifest; /* without the members */
	int disk, image;  /* a sparse raw image; the squashfs */
	const atomic_bool *cancelled;
};
/* Reads disk and image twice: first for their digests, which stand in the first member. */
int pack_write(const struct pack *p, int fd, struct err *e);
