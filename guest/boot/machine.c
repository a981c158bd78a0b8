#include "guest/boot/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/exec/cgroup.h"
#include "guest/log.h"
#include "proto/cleanup.h"

#define CGROUP "/sys/fs/cgroup"

/* The kernel starts init without 0–2 if the initramfs has no /dev/console, and then the first socket would be
 * somebody's stdout. */
static void repair_fds(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
	if (fd > 2)
		close(fd);
}

static void mount_at(const char *at, const char *fstype, unsigned long flags, const char *options)
{
	mkdir(at, 0755);
	if (mount(fstype, at, fstype, flags, options) < 0 && errno != EBUSY)
		log_line("boot: mount %s: %s", at, strerror(errno));
}

void machine_prepare(void)
{
	const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	mount_at("/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	repair_fds();
	log_init(1);
	mount_at("/proc", "proc", plain, NULL);
	mount_at("/sys", "sysfs", plain, NULL);
	mount_at("/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5");
	mount_at("/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	mount_at(CGROUP, "cgroup2", plain, NULL);
}

static bool write_control(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, strlen(text)) >= 0)
		return true;
	log_line("boot: %s: %s", path, strerror(errno));
	return false;
}

const char *machine_make_cgroups(void)
{
	/* One by one: a kernel may lack one of them, and then only that is missing. */
	static const char *const controllers[] = {"+memory", "+pids", "+cpu", "+io"};
	bool ours = mkdir(CGROUP "/agent", 0755) == 0 && write_control(CGROUP "/agent/cgroup.procs", "0");
	if (!ours || mkdir(CGROUP CGROUP_BOX, 0755) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++) {
		write_control(CGROUP "/cgroup.subtree_control", controllers[i]);
		write_control(CGROUP CGROUP_BOX "/cgroup.subtree_control", controllers[i]);
	}
	write_control(CGROUP "/agent/memory.min", "16777216");
	return CGROUP CGROUP_BOX;
}

void machine_take_ctrl_alt_del(void)
{
	reboot(RB_DISABLE_CAD);
}
