#include "guest/files/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/files/parents.h"
#include "proto/cleanup.h"

static bool is_root(int fd)
{
	struct stat a, b;
	return fstat(fd, &a) == 0 && stat("/", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void dirs_init(struct dirs *d, int fd, const struct owner *owner)
{
	/* Out of the root nothing leads, and absolute links are links within. */
	uint64_t confined = is_root(fd) ? RESOLVE_IN_ROOT : RESOLVE_BENEATH;
	d->top = (struct where){.base = fd, .path = ".", .resolve = confined | RESOLVE_NO_MAGICLINKS};
	d->owner = *owner;
	d->path[0] = '\0';
	d->depth = 0;
	d->levels[0] = (struct dirs_level){.fd = fd};
}

static struct dirs_level *deepest(struct dirs *d)
{
	return &d->levels[d->depth];
}

static int finish(struct dirs_level *l, const char **stage)
{
	/* Its owner and its extended attributes it has since it was made; but a chown takes away setgid. */
	int r = l->finish ? attributes_put(l->fd, &l->attributes, NULL, false, stage) : 0;
	close_fd(&l->fd);
	return r;
}

static int leave(struct dirs *d, const char **stage)
{
	int r = finish(deepest(d), stage);
	if (r == 0)
		d->path[d->levels[--d->depth].len] = '\0';
	return r;
}

/* Whether path leads into or to the deepest directory. */
static bool is_within(struct dirs *d, const char *path, size_t n)
{
	size_t len = deepest(d)->len;
	return len == 0 || (len <= n && memcmp(path, d->path, len) == 0 && (len == n || path[len] == '/'));
}

static int push(struct dirs *d, const char *path, size_t n, int fd)
{
	if (d->depth == DIRS_DEPTH_MAX) {
		close(fd);
		return -ENAMETOOLONG;
	}
	memcpy(d->path, path, n);
	d->path[n] = '\0';
	d->levels[++d->depth] = (struct dirs_level){.fd = fd, .len = n};
	return 0;
}

static int open_below(struct dirs *d, const char *path, size_t n)
{
	char whole[PATH_MAX];
	memcpy(whole, path, n);
	whole[n] = '\0';
	return where_resolve_path(&d->top, whole, O_RDONLY | O_DIRECTORY);
}

static int step(struct dirs *d, const char *path, size_t begin, size_t end)
{
	int fd = open_below(d, path, end);
	if (fd == -ENOENT) {
		char name[NAME_MAX + 1];
		if (end - begin > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path + begin, end - begin);
		name[end - begin] = '\0';
		int r = parents_make_dir(deepest(d)->fd, name, 0755, &d->owner);
		if (r < 0)
			return r;
		fd = open_below(d, path, end);
	}
	return fd < 0 ? fd : push(d, path, end, fd);
}

int dirs_enter(struct dirs *d, const char *path, size_t n)
{
	const char *stage;
	while (!is_within(d, path, n)) {
		int r = leave(d, &stage);
		if (r < 0)
			return r;
	}
	while (deepest(d)->len < n) {
		size_t begin = deepest(d)->len ? deepest(d)->len + 1 : 0, end = begin;
		while (end < n && path[end] != '/')
			end++;
		int r = step(d, path, begin, end);
		if (r < 0)
			return r;
	}
	return deepest(d)->fd;
}

int dirs_make(struct dirs *d, const char *path, size_t n, bool *fresh)
{
	const char *slash = memrchr(path, '/', n);
	size_t begin = slash ? (size_t)(slash - path) + 1 : 0;
	int dir = dirs_enter(d, path, begin ? begin - 1 : 0);
	if (dir < 0)
		return dir;
	char name[NAME_MAX + 1];
	if (n - begin > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path + begin, n - begin);
	name[n - begin] = '\0';
	*fresh = mkdirat(dir, name, 0700) == 0;
	if (!*fresh && errno != EEXIST)
		return -errno;
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP ? -ENOTDIR : -errno;
	int r = push(d, path, n, fd);
	return r < 0 ? r : fd;
}

void dirs_finish_with(struct dirs *d, const struct attributes *a)
{
	deepest(d)->finish = true;
	deepest(d)->attributes = *a;
}

int dirs_leave(struct dirs *d, const char **stage)
{
	int first = 0;
	for (;; d->depth--) {
		struct dirs_level *l = deepest(d);
		const char *at;
		int r = finish(l, &at);
		if (r < 0 && first == 0) {
			first = r;
			*stage = at;
		}
		if (first == 0)
			d->path[d->depth ? l[-1].len : 0] = '\0';
		if (d->depth == 0)
			return first;
	}
}
