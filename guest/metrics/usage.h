/* What one cgroup has used (admin-guide/cgroup-v2 of the kernel's documentation). */
#pragma once

#include <stdint.h>

#include "proto/bulk.pb-c.h"

/* Reads what there is of the control files below dir; u keeps what it has of the rest. text: room for a file.
 */
void usage_read(int dir, Tenon__ExecUse *u, char *text, size_t size);

/* OOM kills counted in dir and below. */
uint64_t usage_oom_kills(int dir, char *text, size_t size);

/* The files, each by itself. Pure. */
void usage_parse_cpu(const char *text, Tenon__ExecUse *u);
void usage_parse_io(const char *text, Tenon__ExecUse *u);
