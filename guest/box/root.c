#include "guest/box/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "guest/box/furniture.h"
#include "guest/box/grow.h"
#include "proto/cleanup.h"

#define LOWER "/box/lower"
#define UPPER "/box/upper"
#define ROOT "/box/root"

static int make_dir(const char *path, struct err *e)
{
	if (mkdir(path, 0755) == 0 || errno == EEXIST)
		return 0;
	return err_sys(e, "mkdir", errno, "%s", path);
}

static int mount_device(const struct root_device *d, const char *at, bool writable, struct err *e)
{
	char path[DEVICE_NAME_MAX + 8];
	device_path(path, d->name);
	int r = make_dir(at, e);
	if (r == 0)
		r = device_wait(path, e);
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

/* The devpts of the box and none that the image has put in its place. */
static int open_terminals(struct err *e)
{
	struct statfs fs;
	_cleanup_close_ int fd = open("/dev/pts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return err_sys(e, "open", errno, "/dev/pts in the box");
	if ((unsigned long)fs.f_type != DEVPTS_SUPER_MAGIC)
		return err_set(e, "open", ENOTTY, "/dev/pts in the box is no devpts");
	return steal_fd(&fd);
}

static int build_mounts(const struct root_plan *p, int fds[WORKER_FDS], struct err *e)
{
	int r = make_dir("/box", e);
	if (r == 0)
		r = p->kind == ROOT_OVERLAY ? mount_overlay(p, e) : mount_device(&p->upper, ROOT, true, e);
	if (r < 0)
		return r;
	const char *writable = p->kind == ROOT_OVERLAY ? UPPER : ROOT;
	fds[ROOT_UPPER] = open(writable, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fds[ROOT_UPPER] < 0)
		return err_sys(e, "open", errno, "%s", writable);
	r = become_root(e);
	if (r == 0)
		r = furniture_place(e);
	if (r == 0)
		r = fds[ROOT_PTS] = open_terminals(e);
	return r < 0 ? r : 0;
}

int root_build(const struct root_plan *p, int fds[WORKER_FDS], struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, "unshare", errno, "mount namespace");
	fds[ROOT_NS] = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (fds[ROOT_NS] < 0)
		return err_sys(e, "unshare", errno, "cannot name the mount namespace");
	return p->kind == ROOT_INITRAMFS ? 0 : build_mounts(p, fds, e);
}
