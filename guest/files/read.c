#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/files/files.h"
#include "guest/files/info.h"
#include "guest/files/where.h"
#include "proto/cleanup.h"

/* Checked before it is opened to be read: opening a FIFO or a device does something to it. */
static int open_regular(const struct where *w, struct info *info, struct bump *b, struct fault *f)
{
	_cleanup_close_ int path = where_resolve(w, O_PATH, f);
	if (path < 0)
		return path;
	int r = info_of(info, path, where_name(w, b));
	if (r == 0 && !S_ISREG(info->st.st_mode))
		r = S_ISDIR(info->st.st_mode) ? -EISDIR : -EINVAL;
	if (r == 0)
		r = where_reopen(path, O_RDONLY);
	return r < 0 ? where_fail(w, NULL, "open", -r, f) : r;
}

/* Up to `end`: a file that grows as fast as it is read would have none. */
static int send(struct channel *ch, int fd, uint64_t at, uint64_t end, const struct where *w, struct fault *f)
{
	static uint8_t buf[FRAME_DATA_FULL];
	uint64_t from = at;
	while (at < end) {
		size_t want = end - at < sizeof buf ? (size_t)(end - at) : sizeof buf;
		ssize_t n = pread(fd, buf, want, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return where_fail(w, NULL, "read", errno, f);
		if (n == 0)
			break;
		int r = channel_give(ch, buf, (size_t)n);
		if (r < 0)
			return r;
		at += (uint64_t)n;
	}
	return channel_end(ch, at - from);
}

int files_read(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
	       struct fault *f)
{
	(void)ctx;
	const Tenon__ReadFile *read = req->read;
	_cleanup_where_ struct where w = WHERE_NONE;
	int r = where_open(&w, read->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	uint64_t offset = read->offset;
	if (offset >= WIRE_OFFSET_END)
		return fault_invalid(f, "offset", "beyond any file");
	if (read->last > 0 && (offset > 0 || read->length > 0))
		return fault_invalid(f, "last", "stands beside an offset or a length");
	struct info info;
	_cleanup_close_ int fd = open_regular(&w, &info, &ch->scratch, f);
	if (fd < 0)
		return fd;
	r = info_answer(ch, &info);
	if (r < 0)
		return r;
	/* Files of /proc and their like have no size, but an end. */
	uint64_t end = info.st.st_size > 0 ? (uint64_t)info.st.st_size : WIRE_OFFSET_END;
	if (read->length > 0 && (offset >= end || read->length < end - offset))
		end = offset >= end ? offset : offset + read->length;
	if (read->last > 0 && info.st.st_size > 0 && read->last < end)
		offset = end - read->last;
	return send(ch, fd, offset, end, &w, f);
}
