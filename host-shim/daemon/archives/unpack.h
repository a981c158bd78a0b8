/* Reads an archive from a pipe into two files. On a thread of its own: everything here may block. Whatever
 * the archive is, it costs no more memory than its compression's window, no more disk than it said at its
 * beginning and there is room for, and leaves nothing when it is refused that its folder does not hold. */
#pragma once

#include <stdatomic.h>

#include "manifest.h"

struct unpack {
	int folder; /* gets disk.raw, sparse and of the disk's size, and image.squashfs */
	const atomic_bool *cancelled;
	struct archive_manifest manifest; /* to be finished, whatever came */
	struct failure failure;           /* its kind set if it failed */
};
#define UNPACK_DISK "disk.raw"

bool unpack_read(struct unpack *u, int fd);
