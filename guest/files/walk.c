#include "guest/files/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

static int fail(struct walk *w, const char *stage, int errnum)
{
	w->stage = stage;
	return -errnum;
}

int walk_error(const struct walk_entry *e, const char *stage, int errnum)
{
	return fail(e->walk, stage, errnum);
}

int walk_fail(const struct walk *w, const struct where *top, int r, struct fault *f)
{
	return w->stage ? where_fail(top, w->path[0] ? w->path : NULL, w->stage, -r, f) : r;
}

int walk_open(const struct walk *w, int dir, const char *name)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = w->one_mount ? RESOLVE_NO_XDEV : 0};
	long fd = syscall(SYS_openat2, dir, name, &how, sizeof how);
	return fd < 0 ? -errno : (int)fd;
}

static int walk_level(struct walk *w, int fd, size_t len, unsigned depth);

static int enter(struct walk *w, const struct walk_entry *e, size_t len, unsigned depth)
{
	if (depth == WALK_DEPTH_MAX)
		return fail(w, "open", ELOOP);
	int fd = walk_open(w, e->dir, e->name);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fail(w, "open", -fd);
	return walk_level(w, fd, len, depth + 1);
}

/* path[0..len) is the entry's. */
static int visit(struct walk *w, const struct walk_entry *e, size_t len, unsigned depth)
{
	int r = w->visit(w->arg, WALK_BEFORE, e);
	if (r == WALK_SKIP)
		return 0;
	if (r != 0 || !e->st || !S_ISDIR(e->st->st_mode))
		return r;
	if (depth < w->depth_max)
		r = enter(w, e, len, depth);
	w->path[len] = '\0';
	return r == 0 ? w->visit(w->arg, WALK_AFTER, e) : r;
}

static int see_and_visit(struct walk *w, struct walk_entry *e, size_t len, unsigned depth)
{
	struct stat st;
	e->st = &st;
	if (fstatat(e->dir, e->name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0)
		return visit(w, e, len, depth);
	return errno == ENOENT ? 0 : fail(w, "stat", errno);
}

static int walk_level(struct walk *w, int fd, size_t len, unsigned depth)
{
	_cleanup_closedir_ DIR *d = fdopendir(fd);
	if (!d) {
		close(fd);
		return fail(w, "open", ENOMEM);
	}
	if (len > 0)
		w->path[len++] = '/';
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(d);
		if (!entry && errno) {
			w->path[len > 0 ? len - 1 : 0] = '\0';
			return fail(w, "readdir", errno);
		}
		if (!entry)
			return 0;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		size_t n = strlen(entry->d_name);
		if (len + n + 2 > sizeof w->path) {
			w->path[len > 0 ? len - 1 : 0] = '\0';
			return fail(w, "readdir", ENAMETOOLONG);
		}
		memcpy(w->path + len, entry->d_name, n + 1);
		struct walk_entry e = {w, fd, entry->d_name, w->path, NULL};
		int r = w->unseen_files && entry->d_type == DT_REG ? visit(w, &e, len + n, depth)
								   : WALK_AGAIN;
		if (r == WALK_AGAIN)
			r = see_and_visit(w, &e, len + n, depth);
		if (r != 0)
			return r;
	}
}

int walk_dir(struct walk *w, int fd)
{
	w->stage = NULL;
	w->path[0] = '\0';
	return walk_level(w, fd, 0, 1);
}
