/* /proc/stat, proc(5). */
#pragma once

#include "proto/bulk.pb-c.h"

#define CPUTIMES_TICK_US 10000 /* USER_HZ is 100 for every program, whatever the kernel runs at */

/* Of all processors together; *cpus: how many are online. Pure. */
void cputimes_parse(const char *text, Tenon__CpuTimes *t, uint32_t *cpus);
