/* /proc/PID/stat (proc(5)), whose second field may hold anything. */
#pragma once

#include <stdint.h>

#define PROCSTAT_SESSION 6
#define PROCSTAT_STARTED 22 /* ticks since boot: with the pid it names a process for good */

/* A field behind the name and the state, by its number in proc(5), of 4 and up; as unsigned. 0, or -EINVAL if
 * the line has no such field. Pure. */
int procstat_field(const char *line, int field, uint64_t *value);

/* The file `name` of a process in the directory `proc`, NUL-terminated and cut at size - 1 bytes. 0 or
 * -errno. */
int procstat_read(int proc, const char *pid, const char *name, char *buf, unsigned size);
