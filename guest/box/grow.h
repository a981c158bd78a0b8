/* Growing a file system to its device. */
#pragma once

#include "proto/err.h"

/* Grows the mounted ext4 at `at` to the size of its device. Other file systems are left as they are. Returns
 * 0, also when there is nothing to grow. ext4: EXT4_IOC_RESIZE_FS takes the new size in blocks. */
int grow_filesystem(const char *at, const char *device, struct err *e);
