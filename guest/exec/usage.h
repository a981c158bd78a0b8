/* What one cgroup has used since it was made (admin-guide/cgroup-v2 of the kernel's documentation). */
#pragma once

#include <stdint.h>

/* Only ever growing. */
struct usage {
	uint64_t user_us, system_us, throttled_us;
	uint64_t read_bytes, written_bytes;
	uint64_t oom_kills;   /* below it too */
	uint64_t memory_peak; /* bytes */
};

/* From the control files below dir; 0 for what the kernel does not have. */
void usage_read(int dir, struct usage *u);

/* The first number of a control file below dir, or 0. */
uint64_t usage_read_number(int dir, const char *file);

/* What was used between two looks. A peak is known only if it is above the earlier one; else it is 0. */
struct usage usage_since(const struct usage *earlier, const struct usage *now);

/* The files, each by itself. Pure. */
void usage_parse_cpu(const char *text, struct usage *u);
void usage_parse_io(const char *text, struct usage *u);
