#include "guest/link/sendq.h"

#include <string.h>

void sendq_init(struct sendq *q, uint8_t *buf, size_t cap)
{
	*q = (struct sendq){.buf = buf, .cap = cap};
}

size_t sendq_room(const struct sendq *q)
{
	return q->cap - sendq_len(q);
}

uint8_t *sendq_reserve(struct sendq *q, size_t n)
{
	if (n > sendq_room(q))
		return NULL;
	if (n > q->cap - q->end) {
		memmove(q->buf, q->buf + q->start, sendq_len(q));
		q->end -= q->start;
		q->start = 0;
	}
	uint8_t *p = q->buf + q->end;
	q->end += n;
	return p;
}

bool sendq_put(struct sendq *q, const void *bytes, size_t n)
{
	uint8_t *p = sendq_reserve(q, n);
	if (p)
		memcpy(p, bytes, n);
	return p != NULL;
}

void sendq_consume(struct sendq *q, size_t n)
{
	q->start += n;
	if (q->start == q->end)
		q->start = q->end = 0;
}
