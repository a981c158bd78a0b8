/* /proc/diskstats, admin-guide/iostats of the kernel's documentation. */
#pragma once

#include <stdbool.h>

#include "proto/bulk.pb-c.h"

/* The whole disk at or after *text, which is moved behind it: not its partitions, loops or RAM disks. False
 * if there is no more. d->name points into the text. disk: the name of the one before, "" at first. Pure. */
bool diskstats_next(const char **text, ProtobufCBinaryData *disk, Tenon__DiskUse *d);
