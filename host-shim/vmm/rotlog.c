#include "rotlog.h"

#include "proto/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static void old_name(const struct rotlog *log, char out[sizeof log->name + 2])
{
	snprintf(out, sizeof log->name + 2, "%s.1", log->name);
}

/* The current file becomes the old one, and a new one begins. 0 or -errno. */
static int rotate(struct rotlog *log)
{
	char old[sizeof log->name + 2];
	old_name(log, old);
	if (renameat(log->dir, log->name, log->dir, old) < 0 && errno != ENOENT)
		return -errno;
	int fd = openat(log->dir, log->name, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close_fd(&log->fd);
	log->fd = fd;
	log->size = 0;
	return 0;
}

int rotlog_open(struct rotlog *log, int dir, const char *name, size_t limit, struct err *e)
{
	*log = (struct rotlog){.dir = dir, .fd = -1, .limit = limit};
	snprintf(log->name, sizeof log->name, "%s", name);
	int r = rotate(log);
	return r < 0 ? err_sys(e, "log", -r, "opening %s", name) : 0;
}

void rotlog_close(struct rotlog *log)
{
	close_fd(&log->fd);
}

void rotlog_write(struct rotlog *log, const void *data, size_t len)
{
	const char *at = data;
	log->total += len;
	while (len > 0) {
		if (log->size >= log->limit && rotate(log) < 0)
			return;
		size_t room = log->limit - log->size;
		ssize_t n = write(log->fd, at, len < room ? len : room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		log->size += (size_t)n;
		at += n;
		len -= (size_t)n;
	}
}

static ssize_t read_range(int fd, char *buf, size_t len, size_t from)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(from + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t rotlog_tail(const struct rotlog *log, void *buf, size_t cap)
{
	size_t here = log->size < cap ? log->size : cap;
	size_t before = 0;
	if (here < cap && log->total > log->size) {
		char old[sizeof log->name + 2];
		old_name(log, old);
		_cleanup_close_ int fd = openat(log->dir, old, O_RDONLY | O_CLOEXEC);
		off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
		before = log->total - log->size;
		before = before < cap - here ? before : cap - here;
		before = end > 0 && (size_t)end < before ? (size_t)end : before;
		ssize_t n = end > 0 ? read_range(fd, buf, before, (size_t)end - before) : 0;
		if (n < 0)
			return n;
		before = (size_t)n;
	}
	ssize_t n = read_range(log->fd, (char *)buf + before, here, log->size - here);
	return n < 0 ? n : (ssize_t)before + n;
}
