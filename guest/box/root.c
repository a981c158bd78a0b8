#include "guest/box/root.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/boot/modules.h"
#include "guest/box/furniture.h"
#include "guest/box/grow.h"
#include "guest/loop.h"
#include "proto/cleanup.h"

#define DEVICE_WAIT_MS 10000

#define LOWER "/box/lower"
#define UPPER "/box/upper"
#define ROOT "/box/root"

static int make_dir(const char *path, struct err *e)
{
	if (mkdir(path, 0755) == 0 || errno == EEXIST)
		return 0;
	return err_sys(e, "mkdir", errno, "%s", path);
}

/* Devices appear when their driver has probed them, which may be after its module has loaded. */
static int wait_for_device(const char *path, struct err *e)
{
	_cleanup_close_ int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch < 0 || inotify_add_watch(watch, "/dev", IN_CREATE) < 0)
		return err_sys(e, "device", errno, "cannot watch /dev");
	uint64_t end = clock_mono() + DEVICE_WAIT_MS * NSEC_PER_MSEC;
	while (access(path, F_OK) < 0) {
		uint64_t now = clock_mono();
		if (now >= end)
			return err_set(e, "device", ENODEV, "%s did not appear in %d s", path,
				       DEVICE_WAIT_MS / 1000);
		struct pollfd p = {.fd = watch, .events = POLLIN};
		poll(&p, 1, (int)((end - now) / NSEC_PER_MSEC) + 1);
		char events[4096];
		while (read(watch, events, sizeof events) > 0)
			;
	}
	return 0;
}

static int mount_device(const struct root_device *d, const char *at, bool writable, struct err *e)
{
	char path[sizeof d->name + 8];
	snprintf(path, sizeof path, "/dev/%s", d->name);
	int r = make_dir(at, e);
	if (r == 0)
		r = wait_for_device(path, e);
	if (r < 0)
		return r;
	if (mount(path, at, d->fstype, writable ? MS_NOATIME : MS_RDONLY, NULL) < 0)
		return err_sys(e, "mount", errno, "%s as %s", path, d->fstype);
	return writable ? grow_filesystem(at, path, e) : 0;
}

static int mount_overlay(const struct root_plan *p, struct err *e)
{
	int r = mount_device(&p->lower, LOWER, false, e);
	if (r == 0)
		r = mount_device(&p->upper, UPPER, true, e);
	if (r == 0)
		r = make_dir(UPPER "/data", e);
	if (r == 0)
		r = make_dir(UPPER "/work", e);
	if (r == 0)
		r = make_dir(ROOT, e);
	if (r < 0)
		return r;
	if (mount("overlay", ROOT, "overlay", 0,
		  "lowerdir=" LOWER ",upperdir=" UPPER "/data,workdir=" UPPER "/work") < 0)
		return err_sys(e, "mount", errno, "overlay of %s on %s", p->upper.name, p->lower.name);
	return 0;
}

/* Puts the tree at ROOT over "/" of this namespace, so that setns(2), which steps on to what covers the root,
 * lands in it. A mere chroot would leave the box unable to make user namespaces (kernel: current_chrooted).
 */
static int become_root(struct err *e)
{
	static const char *const agents[] = {"/sys/fs/cgroup", "/sys", "/dev/pts", "/dev", "/run", "/proc"};
	if (chdir(ROOT) < 0)
		return err_sys(e, "chdir", errno, ROOT);
	for (size_t i = 0; i < sizeof agents / sizeof *agents; i++)
		umount2(agents[i], MNT_DETACH); /* copies of the agent's own, of no use to the box */
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0)
		return err_sys(e, "mount", errno, "cannot move the root into place");
	if (chroot(".") < 0 || chdir("/") < 0)
		return err_sys(e, "chroot", errno, "cannot enter the root");
	return 0;
}

int root_build(void *arg, int fds[WORKER_FDS], struct err *e)
{
	const struct root_plan *p = arg;
	int r = modules_load("/modules/root.list", e);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, "unshare", errno, "mount namespace");
	fds[0] = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (fds[0] < 0)
		return err_sys(e, "unshare", errno, "cannot name the mount namespace");

	r = make_dir("/box", e);
	if (r == 0)
		r = p->kind == ROOT_OVERLAY ? mount_overlay(p, e) : mount_device(&p->upper, ROOT, true, e);
	if (r == 0)
		r = become_root(e);
	return r < 0 ? r : furniture_place(e);
}
