#include "pieces.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

void piece_put_head(uint8_t out[PIECE_HEAD], uint64_t offset, uint64_t len)
{
	uint64_t words[2] = {htole64(offset), htole64(len)};
	memcpy(out, words, PIECE_HEAD);
}

int piece_find(int fd, uint64_t size, uint64_t *at, uint64_t *len, struct err *e)
{
	if (*at >= size)
		return 0;
	off_t data = lseek(fd, (off_t)*at, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return err_sys(e, "archive", errno, "reading the disk");
	*at = (uint64_t)data;
	*len = (uint64_t)(hole - data);
	if (*len > PIECE_MAX)
		*len = PIECE_MAX;
	return 1;
}

static int take_head(struct pieces *p, struct err *e)
{
	uint64_t words[2];
	memcpy(words, p->head, PIECE_HEAD);
	uint64_t offset = le64toh(words[0]), len = le64toh(words[1]);
	p->head_len = 0;
	if (len == 0 && offset == p->size) {
		p->over = true;
		return 0;
	}
	if (len == 0 || len > PIECE_MAX || offset < p->end || offset > p->size || len > p->size - offset)
		return err_set(e, "archive", EINVAL, "disk.extents: a piece that the disk has no place for");
	p->at = offset;
	p->left = len;
	p->end = offset + len;
	return 0;
}

static int write_all(struct pieces *p, const uint8_t *bytes, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t done = pwrite(p->fd, bytes, n, (off_t)p->at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(e, "archive", errno, "writing the disk");
		bytes += done;
		n -= (size_t)done;
		p->at += (uint64_t)done;
		p->left -= (uint64_t)done;
	}
	return 0;
}

int pieces_take(struct pieces *p, const uint8_t *bytes, size_t n, struct err *e)
{
	int r = 0;
	while (n > 0 && r == 0) {
		if (p->over)
			return err_set(e, "archive", EINVAL, "disk.extents goes on after its end");
		if (p->left == 0) {
			size_t more = PIECE_HEAD - p->head_len < n ? PIECE_HEAD - p->head_len : n;
			memcpy(p->head + p->head_len, bytes, more);
			p->head_len += (unsigned)more;
			bytes += more;
			n -= more;
			if (p->head_len == PIECE_HEAD)
				r = take_head(p, e);
			continue;
		}
		size_t piece = p->left < n ? (size_t)p->left : n;
		r = write_all(p, bytes, piece, e);
		bytes += piece;
		n -= piece;
	}
	return r;
}
