/* ULIDs: 48 bits of milliseconds and 80 random ones as 26 digits of Crockford's base 32, so that ids sort by age. */
#pragma once

#include <stdint.h>

#define ULID_LENGTH 26

/* Fills out with the id of that time and NUL. now_ms below 2^48; random: 10 bytes. */
void ulid_format(char out[ULID_LENGTH + 1], uint64_t now_ms, const uint8_t random[10]);
/* The same with the clock and the kernel's random numbers. */
void ulid_make(char out[ULID_LENGTH + 1]);
