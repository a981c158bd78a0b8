#include "guest/exec/output.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "proto/frame.h"

bool exec_output_read(struct exec_output *o, uint8_t *mem, unsigned how)
{
	if (o->fd < 0 || !o->readable)
		return false;
	if (how & OUTPUT_DROP_OLDEST && ring_free(&o->ring) < ring_size(&o->ring) / 4)
		ring_release(&o->ring, o->ring.end - ring_size(&o->ring) / 4 * 3);

	size_t room = ring_free(&o->ring);
	ssize_t n = ring_read(&o->ring, mem, o->fd);
	if (n > 0) {
		if ((size_t)n < room && !o->hung_up && !(how & OUTPUT_TTY))
			o->readable = false;
		return true;
	}
	bool empty = n == -EAGAIN || (n == -EIO && how & OUTPUT_TTY_LED);
	if (empty)
		o->readable = false;
	if (empty || n == -ENOBUFS || n == -EINTR)
		return false;
	o->eof = true; /* also on an error: nothing more will come out of it */
	return true;
}

bool exec_output_cramped(const struct exec_output *o)
{
	return o->readable && !o->eof && ring_free(&o->ring) == 0 && o->limit > o->ring.end;
}

bool exec_output_asks_credit(struct exec_output *o)
{
	bool asks = !o->asked && o->sent > o->ring.base && o->sent - o->ring.base >= ring_size(&o->ring) / 2;
	o->asked |= asks;
	return asks;
}

int exec_output_credit(struct exec_output *o, uint64_t acked, uint64_t limit)
{
	if (acked > o->ring.end)
		return -EPROTO;
	o->asked = false;
	o->starved = exec_output_cramped(o) && o->sent == o->ring.end ? o->starved + 1 : 0;
	if (acked > o->acked)
		o->acked = acked;
	if (acked > o->sent)
		o->sent = acked;
	if (acked > o->ring.base)
		ring_release(&o->ring, acked);
	if (limit > o->limit)
		o->limit = limit;
	return 0;
}

void exec_output_attach(struct exec_output *o, uint64_t host_end, uint64_t limit)
{
	o->sent = host_end;
	o->limit = limit;
	o->eof_sent = false;
	exec_output_credit(o, host_end, limit);
}

/* Not before there is credit: until then more may be dropped, and one GAP tells it all. */
static bool gap_due(const struct exec_output *o)
{
	return o->sent < o->ring.base && o->sent < o->limit;
}

static bool data_due(const struct exec_output *o)
{
	return o->ring.base <= o->sent && o->sent < o->ring.end && o->sent < o->limit;
}

static bool eof_due(const struct exec_output *o)
{
	return o->eof && !o->eof_sent && o->sent == o->ring.end;
}

bool exec_output_has_bytes(const struct exec_output *o)
{
	return gap_due(o) || data_due(o);
}

bool exec_output_ready(const struct exec_output *o)
{
	return exec_output_has_bytes(o) || eof_due(o);
}

struct exec_chunk exec_output_next(struct exec_output *o)
{
	struct exec_chunk c = {CHUNK_NONE, o->sent, o->sent};
	if (gap_due(o)) {
		c.kind = CHUNK_GAP;
		c.to = o->ring.base;
	} else if (data_due(o)) {
		c.kind = CHUNK_DATA;
		c.to = o->ring.end < o->limit ? o->ring.end : o->limit;
		if (c.to - c.from > FRAME_DATA_FULL)
			c.to = c.from + FRAME_DATA_FULL;
	} else if (eof_due(o)) {
		c.kind = CHUNK_EOF;
		o->eof_sent = true;
	}
	o->sent = c.to;
	return c;
}

bool exec_output_drained(const struct exec_output *o, bool has_stream)
{
	return o->eof && o->acked == o->ring.end && (o->eof_sent || !has_stream);
}

uint64_t exec_output_total(const struct exec_output *o, unsigned how, bool *open)
{
	int unread = 0;
	*open = false;
	if (!o->eof) {
		struct pollfd p = {.fd = o->fd};
		ioctl(o->fd, FIONREAD, &unread);
		*open = poll(&p, 1, 0) <= 0 || !(p.revents & POLLHUP);
		if (how & OUTPUT_TTY)
			return OUTPUT_TOTAL_UNKNOWN;
	}
	return o->ring.end + (uint64_t)unread;
}
