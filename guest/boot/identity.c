#include "guest/boot/identity.h"

#include <string.h>
#include <sys/random.h>

#include "proto/clock.h"

uint64_t identity_now(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

void identity_init(struct identity *id)
{
	tenon__boot_times__init(&id->times);
	id->times.init_ns = identity_now();
	/* So early the kernel's generator may hold little; the wall clock tells boots of the same image
	 * apart. */
	uint64_t words[2] = {0, 0};
	if (getrandom(words, sizeof words, GRND_INSECURE) != sizeof words)
		words[1] = id->times.init_ns;
	words[0] ^= clock_ns(CLOCK_REALTIME);
	memcpy(id->boot_id, words, BOOT_ID_SIZE);
}
