/* A window of bytes out of an endless sequence: [base, end) in absolute offsets, stored at offset mod the
 * ring's size. Offsets and memory are apart, so that rows hold no pointers and survive a change of process.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define RING_SIZE 65536u   /* a power of two, and what a pipe holds */
#define RING_WIDE 1048576u /* likewise, of those few that carry much: at first they use half of it */

struct ring {
	uint64_t base, end; /* base <= end <= base + ring_size() */
	uint32_t wide;      /* 0, or which of the wide ones it is, from 1 */
	uint32_t whole;     /* 1: all of that is used */
};

static inline size_t ring_size(const struct ring *r)
{
	return r->whole ? RING_WIDE : r->wide ? RING_WIDE / 2 : RING_SIZE;
}

static inline size_t ring_used(const struct ring *r)
{
	return (size_t)(r->end - r->base);
}

static inline size_t ring_free(const struct ring *r)
{
	return ring_size(r) - ring_used(r);
}

/* The memory of offsets [from, to) as one or two pieces; returns how many (0 if empty). to - from <=
 * ring_size(r). */
int ring_span(const struct ring *r, uint8_t *mem, uint64_t from, uint64_t to, struct iovec iov[2]);

/* Reads from fd once into all free space. Returns bytes, 0 at end of file, -ENOBUFS if the ring is full, else
 * -errno. */
ssize_t ring_read(struct ring *r, uint8_t *mem, int fd);

/* Writes [base, end) to fd once and forgets what was taken. Returns bytes or -errno; the ring must not be
 * empty. */
ssize_t ring_write(struct ring *r, uint8_t *mem, int fd);

/* Appends n bytes; n <= ring_free(r). */
void ring_put(struct ring *r, uint8_t *mem, const uint8_t *bytes, size_t n);

/* Takes what it holds from one memory to another and goes on there, as the wide ring of that number (0: an
 * ordinary one, which must have room for it). */
void ring_move(struct ring *r, uint8_t *from, uint8_t *to, uint32_t wide);

/* A wide ring uses all of its memory from now on. */
void ring_spread(struct ring *r, uint8_t *mem);

/* Forgets everything below `to`; base <= to <= end. */
static inline void ring_release(struct ring *r, uint64_t to)
{
	r->base = to;
}
