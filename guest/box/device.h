/* Block devices, which appear when their driver has probed them: perhaps after its module has loaded. */
#pragma once

#include "proto/err.h"

#define DEVICE_NAME_MAX 32

/* "/dev/" before a kernel name ("vda") of fewer than DEVICE_NAME_MAX bytes. */
void device_path(char path[DEVICE_NAME_MAX + 8], const char *name);

/* Waits up to 10 s for the path below /dev to be there. For workers. */
int device_wait(const char *path, struct err *e);
