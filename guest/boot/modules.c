#include "guest/boot/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define LIST_MAX 8192

static int load(int dir, const char *name, struct err *e)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "module", errno, "%s", name);
	/* ENOSYS: a kernel that takes no modules has built in what it has. One initramfs serves both. */
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENOSYS)
		return err_sys(e, "module", errno, "%s", name);
	return 0;
}

int modules_load(const char *list, struct err *e)
{
	char names[LIST_MAX], folder[64];
	_cleanup_close_ int fd = open(list, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, "module", errno, "%s", list);
	ssize_t n = read(fd, names, sizeof names - 1);
	const char *slash = strrchr(list, '/');
	if (n < 0 || !slash || (size_t)(slash - list) >= sizeof folder)
		return err_sys(e, "module", n < 0 ? errno : ENAMETOOLONG, "%s", list);
	names[n] = '\0';
	memcpy(folder, list, (size_t)(slash - list));
	folder[slash - list] = '\0';
	_cleanup_close_ int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, "module", errno, "%s", folder);

	int first = 0;
	char *save = NULL;
	for (char *name = strtok_r(names, "\n", &save); name; name = strtok_r(NULL, "\n", &save)) {
		int r = load(dir, name, first == 0 ? e : NULL);
		if (first == 0)
			first = r;
	}
	return first;
}
