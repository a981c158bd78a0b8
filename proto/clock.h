/* Clocks as one number. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)

/* A clock of clock_gettime(2), in nanoseconds since its beginning: 1970 for CLOCK_REALTIME, boot for the
 * others. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* The same in milliseconds. */
static inline uint64_t clock_ms(clockid_t clock)
{
	return clock_ns(clock) / NSEC_PER_MSEC;
}
