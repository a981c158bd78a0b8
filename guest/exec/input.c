#include "guest/exec/input.h"

#include <errno.h>

#include "guest/exec/pty.h"

void exec_input_init(struct exec_input *in, int fd)
{
	*in = (struct exec_input){.fd = fd, .closed = fd < 0, .closed_told = fd < 0};
	if (fd >= 0)
		in->told_limit = RING_SIZE;
}

void exec_input_close(struct exec_input *in)
{
	in->closed = true;
	ring_release(&in->ring, in->ring.end);
}

static uint64_t limit_now(const struct exec_input *in)
{
	return in->closed ? in->told_limit : in->ring.base + RING_SIZE;
}

int exec_input_put(struct exec_input *in, uint8_t *mem, uint64_t offset, const uint8_t *bytes, size_t n)
{
	if (in->closed)
		return 0;
	if (offset > in->ring.end || offset + n > in->told_limit)
		return -EPROTO;
	uint64_t held = in->ring.end - offset; /* sent again after a reconnect */
	if (n <= held)
		return 0;
	if (in->eof || n - held > ring_free(&in->ring))
		return -EPROTO;
	ring_put(&in->ring, mem, bytes + held, n - (size_t)held);
	return 0;
}

int exec_input_end(struct exec_input *in, uint64_t total)
{
	if (in->closed)
		return 0;
	if (total != in->ring.end)
		return -EPROTO;
	in->eof = true;
	return 0;
}

/* A terminal has no end of file to close; it is told by a character. */
static bool end_terminal(struct exec_input *in, const uint8_t *mem)
{
	uint8_t last = in->ring.base > 0 ? mem[(in->ring.base - 1) % RING_SIZE] : '\n';
	return pty_end_input(in->fd, last, &in->veofs) != -EAGAIN;
}

bool exec_input_write(struct exec_input *in, uint8_t *mem, bool tty)
{
	if (in->closed)
		return true;
	while (ring_used(&in->ring) > 0) {
		ssize_t n = ring_write(&in->ring, mem, in->fd);
		if (n == -EAGAIN || n == -EINTR)
			return false;
		if (n < 0) {
			exec_input_close(in);
			return true;
		}
	}
	return in->eof && (!tty || end_terminal(in, mem));
}

bool exec_input_waiting(const struct exec_input *in)
{
	return in->fd >= 0 && !in->closed && (in->eof || ring_used(&in->ring) > 0);
}

void exec_input_attach(struct exec_input *in)
{
	uint64_t acked, limit;
	exec_input_credit(in, &acked, &limit);
	in->closed_told = in->closed;
}

bool exec_input_credit_due(const struct exec_input *in)
{
	return !in->closed &&
	       (in->told_end != in->ring.end || limit_now(in) - in->told_limit >= RING_SIZE / 4);
}

void exec_input_credit(struct exec_input *in, uint64_t *acked, uint64_t *limit)
{
	*acked = in->told_end = in->ring.end;
	*limit = in->told_limit = limit_now(in);
}
