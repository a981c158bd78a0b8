#include "guest/files/parents.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define PARENT_MODE 0755

int parents_make_dir(int dir, const char *name, mode_t mode, const struct owner *o)
{
	if (mkdirat(dir, name, 0700) < 0)
		return -errno;
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, o->uid, o->gid) < 0 || fchmod(fd, mode) < 0) {
		int r = -errno;
		unlinkat(dir, name, AT_REMOVEDIR);
		return r;
	}
	return 0;
}

/* One step down: *dir becomes what path names. */
static int descend(const struct where *w, const char *path, const char *name, int *dir, const struct owner *o,
		   bool *made)
{
	int fd = where_resolve_path(w, path, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT) {
		int r = parents_make_dir(*dir, name, PARENT_MODE, o);
		if (r < 0 && r != -EEXIST)
			return r;
		*made = r == 0;
		fd = where_resolve_path(w, path, O_PATH | O_DIRECTORY);
	} else {
		*made = false;
	}
	if (fd < 0)
		return fd;
	close_fd(dir);
	*dir = fd;
	return 0;
}

int parents_make_path(const struct where *w, char *path, size_t n, const struct owner *o, bool *made)
{
	bool unused;
	made = made ? made : &unused;
	*made = false;
	_cleanup_close_ int dir = where_resolve_path(w, path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY);
	if (dir < 0)
		return dir;
	for (size_t begin = 0, end; begin < n; begin = end + 1) {
		for (end = begin; end < n && path[end] != '/'; end++)
			;
		if (end == begin)
			continue;
		char saved = path[end];
		path[end] = '\0';
		int r = descend(w, path, path + begin, &dir, o, made);
		path[end] = saved;
		if (r < 0)
			return r;
	}
	return 0;
}

int parents_make(const struct where *w, bool last_too, const struct owner *o, bool *made, struct fault *f)
{
	char path[PATH_MAX];
	size_t n = strlen(w->path);
	memcpy(path, w->path, n + 1);
	while (n > 1 && path[n - 1] == '/')
		n--;
	while (!last_too && n > 0 && path[n - 1] != '/')
		n--;
	int r = parents_make_path(w, path, n, o, made);
	return r < 0 ? where_fail(w, NULL, "mkdir", -r, f) : 0;
}
