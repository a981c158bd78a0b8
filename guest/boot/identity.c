#include "guest/boot/identity.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

uint64_t identity_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

void identity_init(struct identity *id)
{
	tenon__boot_times__init(&id->times);
	id->times.init_ns = identity_now();
	/* So early the kernel's generator may hold little; the wall clock tells boots of the same image
	 * apart. */
	struct timespec wall;
	clock_gettime(CLOCK_REALTIME, &wall);
	uint64_t words[2] = {0, 0};
	if (getrandom(words, sizeof words, GRND_INSECURE) != sizeof words)
		words[1] = id->times.init_ns;
	words[0] ^= (uint64_t)wall.tv_sec * 1000000000ULL + (uint64_t)wall.tv_nsec;
	memcpy(id->boot_id, words, BOOT_ID_SIZE);
}
