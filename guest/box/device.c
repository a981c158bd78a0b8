#include "guest/box/device.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "guest/loop.h"
#include "proto/cleanup.h"

#define WAIT_MS 10000

void device_path(char path[DEVICE_NAME_MAX + 8], const char *name)
{
	snprintf(path, DEVICE_NAME_MAX + 8, "/dev/%s", name);
}

int device_wait(const char *path, struct err *e)
{
	_cleanup_close_ int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch < 0 || inotify_add_watch(watch, "/dev", IN_CREATE) < 0)
		return err_sys(e, "device", errno, "cannot watch /dev");
	uint64_t end = clock_mono() + WAIT_MS * NSEC_PER_MSEC;
	while (access(path, F_OK) < 0) {
		uint64_t now = clock_mono();
		if (now >= end)
			return err_set(e, "device", ENODEV, "%s did not appear in %d s", path,
				       WAIT_MS / 1000);
		struct pollfd p = {.fd = watch, .events = POLLIN};
		poll(&p, 1, (int)((end - now) / NSEC_PER_MSEC) + 1);
		char events[4096];
		while (read(watch, events, sizeof events) > 0)
			;
	}
	return 0;
}
