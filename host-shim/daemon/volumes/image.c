#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define PIECE (1 << 20)

static int copy_extent(int from, int to, off_t at, off_t end, uint8_t *buf)
{
	while (at < end) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
		ssize_t n = pread(from, buf, want, at);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		for (ssize_t done = 0, w; done < n; done += w)
			if ((w = pwrite(to, buf + done, (size_t)(n - done), at + done)) < 0)
				return -errno;
		at += n;
	}
	return 0;
}

static int copy_data(int from, int to)
{
	_cleanup_free_ uint8_t *buf = malloc(PIECE);
	int r = buf ? 0 : -ENOMEM;
	for (off_t end = 0; r == 0;) {
		off_t at = lseek(from, end, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno; /* only a hole is left */
		end = lseek(from, at, SEEK_HOLE);
		r = end < 0 ? -errno : copy_extent(from, to, at, end, buf);
	}
	return r;
}

int image_make(const char *path, const char *template, uint64_t size, struct err *e)
{
	_cleanup_close_ int from = open(template, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return err_sys(e, "volume", errno, "%s", template);
	_cleanup_close_ int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (to < 0)
		return err_sys(e, "volume", errno, "%s", path);
	int r = copy_data(from, to);
	if (r == 0 && (ftruncate(to, (off_t)size) < 0 || fsync(to) < 0))
		r = -errno;
	if (r < 0)
		unlink(path);
	return r < 0 ? err_sys(e, "volume", -r, "%s", path) : 0;
}
