#include "guest/box/grow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include "proto/cleanup.h"

#define EXT4_SUPER_MAGIC 0xEF53
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

int grow_filesystem(const char *at, const char *device, struct err *e)
{
	struct statfs fs;
	if (statfs(at, &fs) < 0)
		return err_sys(e, "grow", errno, "%s", at);
	if ((unsigned long)fs.f_type != EXT4_SUPER_MAGIC)
		return 0;

	_cleanup_close_ int dev = open(device, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int root = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t bytes;
	if (dev < 0 || root < 0 || ioctl(dev, BLKGETSIZE64, &bytes) < 0)
		return err_sys(e, "grow", errno, "cannot measure %s", device);
	uint64_t blocks = bytes / (uint64_t)fs.f_bsize;
	if (ioctl(root, EXT4_IOC_RESIZE_FS, &blocks) < 0)
		return err_sys(e, "grow", errno, "%s to %llu blocks", device, (unsigned long long)blocks);
	return 0;
}
