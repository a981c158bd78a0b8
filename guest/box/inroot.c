#include "guest/box/inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

static int open_dir(int root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

int inroot_make_dir(const char *path)
{
	char prefix[PATH_MAX];
	if (strlen(path) >= sizeof prefix)
		return -ENAMETOOLONG;
	_cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	_cleanup_close_ int at = open_dir(root, "/");
	for (const char *p = path; at >= 0;) {
		const char *name = p + strspn(p, "/"), *end = name + strcspn(name, "/");
		if (end == name)
			break;
		p = end;
		memcpy(prefix, path, (size_t)(end - path));
		prefix[end - path] = '\0';
		/* The whole way from the root each time: a link on it is relative to where it stands. */
		int next = open_dir(root, prefix);
		if (next == -ENOENT) {
			if (mkdirat(at, prefix + (name - path), 0755) < 0)
				return -errno;
			next = open_dir(root, prefix);
		}
		close_fd(&at);
		at = next;
	}
	return at < 0 ? at : steal_fd(&at);
}
