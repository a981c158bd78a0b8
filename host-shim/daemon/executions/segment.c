#include "host-shim/daemon/executions/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cleanup.h"

_Static_assert(SEGMENT_BUFFER >= LOG_RECORD_HEADER + LOG_EXIT_MAX && SEGMENT_BUFFER >= SEGMENT_AHEAD,
	       "what is not left in the file fits the buffer");

void segment_name(char out[SEGMENT_NAME_SIZE], uint64_t position)
{
	snprintf(out, SEGMENT_NAME_SIZE, "%016" PRIx64 ".log", position);
}

bool segment_parse_name(const char *name, uint64_t *position)
{
	char again[SEGMENT_NAME_SIZE];
	if (strlen(name) != SEGMENT_NAME_SIZE - 1)
		return false;
	*position = strtoull(name, NULL, 16);
	segment_name(again, *position);
	return strcmp(name, again) == 0;
}

void segment_walk_init(struct segment_walk *w)
{
	*w = (struct segment_walk){.fd = -1};
}

void segment_walk_close(struct segment_walk *w)
{
	close_fd(&w->fd);
}

void segment_walk_finish(struct segment_walk *w)
{
	segment_walk_close(w);
	free(w->buf);
	w->buf = NULL;
}

/* Makes `need` bytes available at buf[start], reading no further than file offset limit. 1 if they are. */
static int fill(struct segment_walk *w, size_t need, uint64_t limit)
{
	while (w->end - w->start < need) {
		if (w->start > 0) {
			memmove(w->buf, w->buf + w->start, w->end - w->start);
			w->base += w->start;
			w->end -= w->start;
			w->start = 0;
		}
		uint64_t at = w->base + w->end;
		if (limit < at || limit - at < need - w->end)
			return 0;
		size_t room = (need > SEGMENT_AHEAD ? need : SEGMENT_AHEAD) - w->end;
		ssize_t n = pread(w->fd, w->buf + w->end, limit - at < room ? limit - at : room, (off_t)at);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return 0;
		if (n > 0)
			w->end += (size_t)n;
	}
	return 1;
}

int segment_walk_open(struct segment_walk *w, const char *dir, const uint8_t id[LOG_ID_SIZE],
		      uint64_t position, struct segment_header *h)
{
	segment_walk_close(w);
	if (!w->buf && !(w->buf = malloc(SEGMENT_BUFFER)))
		return -ENOMEM;
	char name[SEGMENT_NAME_SIZE], path[PATH_MAX];
	segment_name(name, position);
	if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	w->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (w->fd < 0)
		return -errno;

	w->base = w->start = w->end = w->size = 0;
	int r = fill(w, LOG_SEGMENT_HEADER, UINT64_MAX);
	if (r > 0) {
		r = segment_get_header(w->buf, h);
		if (r == 0 && (h->position != position || memcmp(h->id, id, LOG_ID_SIZE) != 0))
			r = -EBADMSG;
		w->start = LOG_SEGMENT_HEADER;
	} else if (r == 0) {
		r = -EBADMSG;
	}
	if (r < 0)
		segment_walk_close(w);
	return r;
}

/* 1 if the file has so many bytes. */
static int reaches(struct segment_walk *w, uint64_t bytes)
{
	struct stat st;
	if (bytes > w->size) {
		if (fstat(w->fd, &st) < 0)
			return -errno;
		w->size = (uint64_t)st.st_size;
	}
	return bytes <= w->size;
}

/* Passes n bytes at buf[start] of which not all were read. */
static int leave(struct segment_walk *w, size_t n, uint64_t limit)
{
	uint64_t end = w->base + w->start + n;
	/* A limit is how much was written; without one the file has to tell. */
	int there = end > limit ? 0 : limit == UINT64_MAX ? reaches(w, end) : 1;
	if (there <= 0)
		return there;
	w->base = end;
	w->start = w->end = 0;
	return 1;
}

int segment_walk_load(struct segment_walk *w, uint64_t at, size_t len, const uint8_t **data)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(w->fd, w->buf + done, len - done, (off_t)(at + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		if (n > 0)
			done += (size_t)n;
	}
	*data = w->buf;
	return 0;
}

int segment_walk_next(struct segment_walk *w, uint64_t limit, struct record *r, const uint8_t **payload)
{
	int got = fill(w, LOG_RECORD_HEADER, limit);
	if (got <= 0)
		return got;
	got = record_get_header(w->buf + w->start, r);
	if (got < 0)
		return got;
	size_t size = LOG_RECORD_HEADER + r->len;
	*payload = NULL;
	if (r->kind == RECORD_DATA && size > SEGMENT_AHEAD)
		return leave(w, size, limit);
	got = fill(w, size, limit);
	if (got <= 0)
		return got;
	*payload = w->buf + w->start + LOG_RECORD_HEADER;
	w->start += size;
	return 1;
}

uint64_t segment_walk_tell(const struct segment_walk *w)
{
	return w->base + w->start;
}
