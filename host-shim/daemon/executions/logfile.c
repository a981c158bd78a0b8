#include "host-shim/daemon/executions/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-shim/daemon/executions/segment.h"
#include "proto/cleanup.h"

struct logfile *logfile_create(const char *dir)
{
	struct logfile *f = malloc(sizeof *f);
	char *copy = strdup(dir);
	if (!f || !copy) {
		free(f);
		free(copy);
		return NULL;
	}
	*f = (struct logfile){.dir = copy, .fd = -1};
	return f;
}

void logfile_destroy(struct logfile *f)
{
	if (!f)
		return;
	close_fd(&f->fd);
	free(f->dir);
	free(f);
}

void logfile_close(struct logfile *f)
{
	close_fd(&f->fd);
}

/* Nearly always all but the last are there. */
static int make_dirs(const char *dir)
{
	char path[PATH_MAX];
	size_t n = strlen(dir);
	if (mkdir(dir, 0700) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return -errno;
	if (n >= sizeof path)
		return -ENAMETOOLONG;
	memcpy(path, dir, n + 1);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int segment_path(char out[PATH_MAX], const char *dir, uint64_t position)
{
	char name[SEGMENT_NAME_SIZE];
	segment_name(name, position);
	return snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int open_segment(const char *dir, uint64_t position, bool create)
{
	char path[PATH_MAX];
	int r = segment_path(path, dir, position);
	if (r < 0)
		return r;
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_TRUNC : 0), 0600);
	return fd < 0 ? -errno : fd;
}

static int open_place(struct logfile *f, const struct log_place *p)
{
	bool create = p->at == 0;
	if (f->fd >= 0 && f->segment == p->segment && !create)
		return 0;
	close_fd(&f->fd);
	int fd = open_segment(f->dir, p->segment, create);
	if (fd == -ENOENT && create) {
		int r = make_dirs(f->dir);
		if (r < 0)
			return r;
		fd = open_segment(f->dir, p->segment, create);
	}
	if (fd < 0)
		return fd;
	f->fd = fd;
	f->segment = p->segment;
	return 0;
}

static int write_all(int fd, const uint8_t *buf, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, buf, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* Deletes the oldest segment below `below`: false if there is none. */
static bool delete_oldest(const char *dir, uint64_t below, uint64_t *deleted)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	uint64_t oldest = UINT64_MAX, position;
	struct dirent *entry;
	while (d && (entry = readdir(d)))
		if (segment_parse_name(entry->d_name, &position) && position < oldest)
			oldest = position;
	if (oldest >= below)
		return false;
	char name[SEGMENT_NAME_SIZE];
	segment_name(name, oldest);
	if (unlinkat(dirfd(d), name, 0) < 0)
		return false;
	*deleted = oldest + 1;
	return true;
}

void logfile_delete(const char *dir, uint64_t below)
{
	uint64_t deleted;
	while (delete_oldest(dir, below, &deleted))
		;
}

/* What a short write left must not stand there as a torn record in the middle. */
static void undo(struct logfile *f, const struct log_place *p)
{
	char path[PATH_MAX];
	if (p->at > 0) {
		if (f->fd >= 0 && f->segment == p->segment && ftruncate(f->fd, (off_t)p->at) < 0)
			close_fd(&f->fd); /* the mending chunk cuts it again, and will not write before it is
					     cut */
		return;
	}
	close_fd(&f->fd);
	if (segment_path(path, f->dir, p->segment) == 0)
		unlink(path);
}

int logfile_write(struct logfile *f, const struct log_place *p, const uint8_t *buf, size_t len,
		  uint64_t *deleted)
{
	if (f->failed && !p->mends)
		return -ECANCELED;
	int r;
	do {
		r = open_place(f, p);
		if (r == 0 && f->failed && ftruncate(f->fd, (off_t)p->at) < 0)
			r = -errno;
		if (r == 0)
			r = write_all(f->fd, buf, len, p->at);
	} while ((r == -ENOSPC || r == -EDQUOT) && delete_oldest(f->dir, p->spare, deleted));
	f->failed = r < 0;
	if (r < 0)
		undo(f, p);
	return r;
}
