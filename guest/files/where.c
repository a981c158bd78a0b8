#include "guest/files/where.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define LINKS_MAX 40 /* as the kernel has it */

const char *where_string(ProtobufCBinaryData bytes, const char *field, struct bump *b, struct fault *f)
{
	if (bytes.len == 0)
		fault_invalid(f, field, "it is empty");
	else if (bytes.len >= PATH_MAX)
		fault_invalid(f, field, "it is longer than %d bytes", PATH_MAX - 1);
	else if (memchr(bytes.data, '\0', bytes.len))
		fault_invalid(f, field, "it holds a NUL");
	else {
		const char *s = bump_string(b, bytes.data, bytes.len);
		if (!s)
			fault_exhausted(f, field, "no memory for it");
		return s;
	}
	return NULL;
}

static int resolve(int base, const char *path, int flags, uint64_t how)
{
	struct open_how h = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = how};
	for (;;) {
		long fd = syscall(SYS_openat2, base, path, &h, sizeof h);
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR) /* EAGAIN: something was renamed meanwhile */
			return -errno;
	}
}

int where_open(struct where *w, const Tenon__Where *at, const char *field, struct bump *b, struct fault *f)
{
	static char path_field[16], beneath_field[16];
	snprintf(path_field, sizeof path_field, "%s.path", field);
	snprintf(beneath_field, sizeof beneath_field, "%s.beneath", field);
	*w = (struct where){.base = AT_FDCWD};
	if (!at)
		return fault_invalid(f, field, "it is missing");
	w->path = where_string(at->path, path_field, b, f);
	if (!w->path)
		return -EINVAL;
	if (at->beneath.len > 0) {
		w->beneath = where_string(at->beneath, beneath_field, b, f);
		if (!w->beneath)
			return -EINVAL;
		if (w->beneath[0] != '/')
			return fault_invalid(f, beneath_field, "the path is not absolute");
	}
	if ((w->path[0] == '/') == (w->beneath != NULL))
		return fault_invalid(f, path_field,
				     w->beneath ? "beneath a folder the path is relative"
						: "the path is not absolute");
	if (!w->beneath)
		return 0;
	w->base = resolve(AT_FDCWD, w->beneath, O_PATH | O_DIRECTORY, 0);
	if (w->base < 0)
		return where_fail(&(struct where){.path = w->beneath}, NULL, "beneath", -w->base, f);
	w->resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	return 0;
}

void where_close(struct where *w)
{
	close_fd(&w->base);
}

void place_close(struct place *p)
{
	close_fd(&p->dir);
}

int where_fail(const struct where *w, const char *below, const char *stage, int errnum, struct fault *f)
{
	/* One operation fails once; the fault is told before the next begins. */
	static char told[3 * PATH_MAX];
	bool rooted = w->path[0] == '/' && w->path[1] == '\0';
	snprintf(told, sizeof told, "%s%s%s%s%s", w->beneath ? w->beneath : "", w->beneath ? "/" : "",
		 rooted && below ? "" : w->path, below ? "/" : "", below ? below : "");
	return fault_file(f, stage, errnum, told);
}

int where_resolve_path(const struct where *w, const char *path, int flags)
{
	return resolve(w->base, path, flags, w->resolve);
}

int where_resolve(const struct where *w, int flags, struct fault *f)
{
	int fd = where_resolve_path(w, w->path, flags);
	return fd < 0 ? where_fail(w, NULL, "open", -fd, f) : fd;
}

bool where_wants_dir(const struct where *w)
{
	size_t n = strlen(w->path);
	return w->path[n - 1] == '/' || strcmp(w->path, ".") == 0 ||
	       (n >= 2 && strcmp(w->path + n - 2, "/.") == 0);
}

/* The end of the path without its slashes, and where its last part begins. */
static size_t last_part(const char *path, size_t *begin)
{
	size_t end = strlen(path);
	while (end > 1 && path[end - 1] == '/')
		end--;
	*begin = end;
	while (*begin > 0 && path[*begin - 1] != '/')
		(*begin)--;
	return end;
}

const char *where_name(const struct where *w, struct bump *b)
{
	size_t begin, end = last_part(w->path, &begin);
	return begin == end ? "/" : bump_string(b, w->path + begin, end - begin);
}

static int place_at(const struct where *w, const char *path, struct place *p)
{
	char parent[PATH_MAX];
	size_t begin, end = last_part(path, &begin), n = end - begin;
	if (n > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(p->name, path + begin, n);
	p->name[n] = '\0';
	/* These are not names that a directory entry could have; ".." by itself would lead out. */
	if (n == 0 || strcmp(p->name, ".") == 0 || strcmp(p->name, "..") == 0)
		return -EINVAL;
	memcpy(parent, path, begin);
	memcpy(parent + begin, ".", 2); /* "a/b/" has room: the name was a byte at least */
	p->dir = where_resolve_path(w, parent, O_PATH | O_DIRECTORY);
	if (p->dir < 0)
		return p->dir;
	struct stat st;
	if (path[end] == '/' && fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return 0;
}

int where_place(const struct where *w, struct place *p, struct fault *f)
{
	int r = place_at(w, w->path, p);
	return r < 0 ? where_fail(w, NULL, "open", -r, f) : 0;
}

/* The path with its last part replaced by what the link there says. */
static int follow(const struct where *w, const char **path, const char *target, struct bump *b)
{
	size_t begin;
	last_part(*path, &begin);
	if (target[0] == '/') {
		if (w->beneath)
			return -EXDEV;
		begin = 0;
	}
	size_t n = strlen(target);
	if (begin + n >= PATH_MAX)
		return -ENAMETOOLONG;
	char *next = bump_alloc(b, begin + n + 1);
	if (!next)
		return -ENOMEM;
	memcpy(next, *path, begin);
	memcpy(next + begin, target, n + 1);
	*path = next;
	return 0;
}

int where_follow(const struct where *w, struct place *p, struct bump *b, struct fault *f)
{
	const char *path = w->path;
	for (int i = 0; i < LINKS_MAX; i++) {
		char target[PATH_MAX];
		place_close(p);
		int r = place_at(w, path, p);
		if (r < 0)
			return where_fail(w, NULL, "open", -r, f);
		ssize_t n = readlinkat(p->dir, p->name, target, sizeof target - 1);
		if (n < 0)
			return 0; /* no link, or nothing at all: the caller's step will tell */
		target[n] = '\0';
		r = follow(w, &path, target, b);
		if (r < 0)
			return where_fail(w, NULL, "open", -r, f);
	}
	return where_fail(w, NULL, "open", ELOOP, f);
}

void where_fd_path(char path[WHERE_FD_PATH], int fd)
{
	snprintf(path, WHERE_FD_PATH, "/proc/self/fd/%d", fd);
}

int where_reopen(int path_fd, int flags)
{
	char path[WHERE_FD_PATH];
	where_fd_path(path, path_fd);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
