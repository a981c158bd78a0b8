#include "ulid.h"

#include <stdlib.h>
#include <sys/random.h>

#include "proto/clock.h"

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* 26 digits hold 130 bits: the first stands for the upper three of the time. */
void ulid_format(char out[ULID_LENGTH + 1], uint64_t now_ms, const uint8_t random[10])
{
	for (int i = 9; i >= 0; i--, now_ms >>= 5)
		out[i] = digits[now_ms & 31];

	uint64_t window = 0;
	int bits = 0, at = 10;
	for (int i = 0; i < 10; i++) {
		window = window << 8 | random[i];
		for (bits += 8; bits >= 5; bits -= 5)
			out[at++] = digits[window >> (bits - 5) & 31];
	}
	out[at] = '\0';
}

void ulid_make(char out[ULID_LENGTH + 1])
{
	uint8_t random[10];
	/* Never short or interrupted for so few bytes; failing means a kernel without getrandom. */
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		abort();
	ulid_format(out, clock_ms(CLOCK_REALTIME), random);
}
