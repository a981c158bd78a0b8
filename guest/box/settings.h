/* What a machine is told beside its file systems and its network: hostname, clock, randomness. Configure and
 * Resume both tell it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "guest/fault.h"

#define SETTINGS_SEED_MAX 512
#define SETTINGS_HOSTNAME_MAX 64

struct settings {
	char hostname[SETTINGS_HOSTNAME_MAX + 1]; /* empty: unchanged */
	uint64_t realtime_ns;                     /* 0: unchanged */
	uint8_t seed[SETTINGS_SEED_MAX];
	size_t seed_len;
};

/* The request's names for them. */
struct settings_fields {
	const char *hostname, *realtime, *seed;
};

int settings_take(struct settings *s, const ProtobufCBinaryData *hostname, uint64_t realtime_ns,
		  const ProtobufCBinaryData *seed, const struct settings_fields *names, struct fault *f);

/* Each does nothing where nothing was said. 0, or -errno with *e, whose stage is the name of the setting. */
int settings_set_hostname(const struct settings *s, struct err *e);
int settings_set_clock(const struct settings *s, struct err *e);
/* Credits the seed to the kernel's pool and has its generator use it at once: random(4), RNDADDENTROPY and
 * RNDRESEEDCRNG. */
int settings_add_seed(const struct settings *s, struct err *e);
