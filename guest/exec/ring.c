#include "guest/exec/ring.h"

#include <errno.h>
#include <string.h>

int ring_span(const struct ring *r, uint8_t *mem, uint64_t from, uint64_t to, struct iovec iov[2])
{
	size_t size = ring_size(r), len = (size_t)(to - from), at = (size_t)(from % size);
	if (len == 0)
		return 0;
	size_t first = len < size - at ? len : size - at;
	iov[0] = (struct iovec){mem + at, first};
	if (first == len)
		return 1;
	iov[1] = (struct iovec){mem, len - first};
	return 2;
}

ssize_t ring_read(struct ring *r, uint8_t *mem, int fd)
{
	struct iovec iov[2];
	int pieces = ring_span(r, mem, r->end, r->base + ring_size(r), iov);
	if (pieces == 0)
		return -ENOBUFS;
	ssize_t n = readv(fd, iov, pieces);
	if (n < 0)
		return -errno;
	r->end += (uint64_t)n;
	return n;
}

ssize_t ring_write(struct ring *r, uint8_t *mem, int fd)
{
	struct iovec iov[2];
	ssize_t n = writev(fd, iov, ring_span(r, mem, r->base, r->end, iov));
	if (n < 0)
		return -errno;
	r->base += (uint64_t)n;
	return n;
}

void ring_put(struct ring *r, uint8_t *mem, const uint8_t *bytes, size_t n)
{
	struct iovec iov[2];
	int pieces = ring_span(r, mem, r->end, r->end + n, iov);
	for (int i = 0; i < pieces; i++) {
		memcpy(iov[i].iov_base, bytes, iov[i].iov_len);
		bytes += iov[i].iov_len;
	}
	r->end += n;
}

void ring_move(struct ring *r, uint8_t *from, uint8_t *to, uint32_t wide)
{
	struct iovec iov[2];
	int pieces = ring_span(r, from, r->base, r->end, iov);
	r->wide = wide;
	r->whole = 0;
	r->end = r->base;
	for (int i = 0; i < pieces; i++)
		ring_put(r, to, iov[i].iov_base, iov[i].iov_len);
}

void ring_spread(struct ring *r, uint8_t *mem)
{
	const size_t half = RING_WIDE / 2;
	r->whole = 1;
	for (uint64_t at = r->base, next; at < r->end; at = next) {
		next = at - at % half + half < r->end ? at - at % half + half : r->end;
		if (at & half)
			memcpy(mem + at % RING_WIDE, mem + at % half, (size_t)(next - at));
	}
}
