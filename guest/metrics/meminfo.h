/* /proc/meminfo, proc(5). */
#pragma once

#include "proto/bulk.pb-c.h"

/* Pure. */
void meminfo_parse(const char *text, Tenon__MemoryUse *m);
