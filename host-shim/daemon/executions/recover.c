#include "host-shim/daemon/executions/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-shim/daemon/executions/segment.h"
#include "proto/cleanup.h"

static int by_position(const void *a, const void *b)
{
	const struct log_segment *x = a, *y = b;
	return (x->position > y->position) - (x->position < y->position);
}

static int list_segments(DIR *d, struct recovered_log *out, struct err *e)
{
	size_t cap = 0;
	struct dirent *entry;
	while ((errno = 0, entry = readdir(d))) {
		uint64_t position;
		struct stat st;
		if (!segment_parse_name(entry->d_name, &position) ||
		    fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (out->count == cap) {
			cap = cap ? cap * 2 : 16;
			struct log_segment *grown = realloc(out->segments, cap * sizeof *grown);
			if (!grown)
				return err_set(e, "log", ENOMEM, "no memory to list a log");
			out->segments = grown;
		}
		out->segments[out->count++] = (struct log_segment){position, (uint64_t)st.st_size};
	}
	if (errno)
		return err_sys(e, "log", errno, "cannot list a log");
	if (out->count > 0) /* an empty log has no array, and qsort takes no NULL */
		qsort(out->segments, out->count, sizeof *out->segments, by_position);
	return 0;
}

static int keep_exit(struct recovered_log *out, const struct record *r, const uint8_t *payload)
{
	out->exit = malloc(r->len + 1);
	if (!out->exit)
		return -ENOMEM;
	memcpy(out->exit, payload, r->len);
	out->exit_len = r->len;
	return 0;
}

/* Passes every record of one segment and stops at the first that does not follow; *good is the file offset
 * there. */
static int walk(struct segment_walk *w, struct recovered_log *out, uint64_t *good)
{
	struct record r;
	const uint8_t *payload;
	int got;
	while ((got = segment_walk_next(w, UINT64_MAX, &r, &payload)) > 0) {
		if (log_point_pass(&out->end, &r, payload) < 0)
			break;
		if (r.kind == RECORD_EXIT && keep_exit(out, &r, payload) < 0)
			return -ENOMEM;
		*good = segment_walk_tell(w);
	}
	return got < 0 && got != -EBADMSG ? got : 0;
}

static int walk_all(DIR *d, const char *dir, const uint8_t id[LOG_ID_SIZE], struct segment_walk *w,
		    struct recovered_log *out, struct err *e)
{
	struct segment_header h;
	char name[SEGMENT_NAME_SIZE];
	/* A crash between open(2) and write(2) leaves a newest segment without a header: it holds nothing. If
	 * none is left the log begins anew, and the agent's GAP says what went before. */
	int r = 0;
	while (out->count > 0) {
		r = segment_walk_open(w, dir, id, out->segments[out->count - 1].position, &h);
		if (r != -EBADMSG)
			break;
		segment_name(name, out->segments[--out->count].position);
		if (unlinkat(dirfd(d), name, 0) < 0)
			return err_sys(e, "log", errno, "cannot delete the broken segment %s", name);
		r = 0;
	}

	for (size_t i = 0; r == 0 && i < out->count; i++) {
		uint64_t good = LOG_SEGMENT_HEADER;
		r = segment_walk_open(w, dir, id, out->segments[i].position, &h);
		if (r == -EBADMSG) { /* an old one, damaged: readers see a gap */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		out->end.offset[CHANNEL_STDOUT] = h.stdout_offset;
		out->end.offset[CHANNEL_STDERR] = h.stderr_offset;
		r = walk(w, out, &good);
		if (r == 0 && i == out->count - 1 && good < out->segments[i].bytes) {
			segment_name(name, h.position);
			_cleanup_close_ int fd = openat(dirfd(d), name, O_WRONLY | O_CLOEXEC);
			if (fd < 0 || ftruncate(fd, (off_t)good) < 0)
				return err_sys(e, "log", errno, "cannot cut segment %s", name);
			out->segments[i].bytes = good;
		}
	}
	return r < 0 ? err_sys(e, "log", -r, "cannot read a log") : 0;
}

int recover_log(const char *dir, const uint8_t id[LOG_ID_SIZE], struct recovered_log *out, struct err *e)
{
	*out = (struct recovered_log){0};
	_cleanup_closedir_ DIR *d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : err_sys(e, "log", errno, "cannot open %s", dir);

	struct segment_walk w;
	segment_walk_init(&w);
	int r = list_segments(d, out, e);
	if (r == 0)
		r = walk_all(d, dir, id, &w, out, e);
	segment_walk_finish(&w);
	if (r < 0)
		recovered_log_finish(out);
	return r;
}

void recovered_log_finish(struct recovered_log *l)
{
	free(l->segments);
	free(l->exit);
	*l = (struct recovered_log){0};
}
