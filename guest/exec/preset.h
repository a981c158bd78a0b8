/* The presets of tenon.proto, as data. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#define PRESET_RLIMITS 1

struct preset {
	uint64_t caps; /* bit n: capability n, capabilities(7) */
	bool default_filter, no_new_privs;
	uint32_t pids_max; /* of the cgroup; 0: no limit */
	struct preset_rlimit {
		int resource;
		struct rlimit limit;
	} rlimits[PRESET_RLIMITS];
	unsigned n_rlimits;
};

/* NULL if there is none of that number. */
const struct preset *preset_find(unsigned number);
