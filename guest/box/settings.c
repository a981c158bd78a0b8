#include "guest/box/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "guest/take.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

int settings_take(struct settings *s, const ProtobufCBinaryData *hostname, uint64_t realtime_ns,
		  const ProtobufCBinaryData *seed, const struct settings_fields *names, struct fault *f)
{
	s->hostname[0] = '\0';
	if (hostname->len > 0) {
		int r = take_name(s->hostname, sizeof s->hostname, hostname, names->hostname, f);
		if (r < 0)
			return r;
	}
	if (realtime_ns > INT64_MAX)
		return fault_invalid(f, names->realtime, "is beyond what Linux counts");
	if (seed->len > SETTINGS_SEED_MAX)
		return fault_invalid(f, names->seed, "is over %d bytes", SETTINGS_SEED_MAX);
	s->realtime_ns = realtime_ns;
	s->seed_len = seed->len;
	if (seed->len > 0)
		memcpy(s->seed, seed->data, seed->len);
	return 0;
}

int settings_set_hostname(const struct settings *s, struct err *e)
{
	if (s->hostname[0] && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return err_sys(e, "hostname", errno, "%s", s->hostname);
	return 0;
}

int settings_set_clock(const struct settings *s, struct err *e)
{
	struct timespec ts = {(time_t)(s->realtime_ns / NSEC_PER_SEC), (long)(s->realtime_ns % NSEC_PER_SEC)};
	if (s->realtime_ns > 0 && clock_settime(CLOCK_REALTIME, &ts) < 0)
		return err_sys(e, "clock", errno, "%llu ns", (unsigned long long)s->realtime_ns);
	return 0;
}

int settings_add_seed(const struct settings *s, struct err *e)
{
	/* struct rand_pool_info and its bytes. */
	struct {
		int entropy_bits, size;
		uint8_t bytes[SETTINGS_SEED_MAX];
	} pool = {.entropy_bits = (int)s->seed_len * 8, .size = (int)s->seed_len};
	if (s->seed_len == 0)
		return 0;
	memcpy(pool.bytes, s->seed, s->seed_len);
	_cleanup_close_ int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0)
		return err_sys(e, "seed", errno, "the kernel did not take it");
	/* ENODATA: so early that the generator takes what it got by itself. */
	if (ioctl(fd, RNDRESEEDCRNG) < 0 && errno != ENODATA)
		return err_sys(e, "seed", errno, "the generator was not reseeded");
	return 0;
}
