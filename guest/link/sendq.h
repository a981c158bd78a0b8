/* Whole frames waiting for a socket: control, and what a partial write left over. A flat buffer that starts
 * anew when it runs empty, so that in the usual case it costs one page. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sendq {
	uint8_t *buf;
	size_t cap, start, end;
};

void sendq_init(struct sendq *q, uint8_t *buf, size_t cap);

static inline size_t sendq_len(const struct sendq *q)
{
	return q->end - q->start;
}

/* Room for n bytes at the end, which count as queued at once; NULL if there is no room. */
uint8_t *sendq_reserve(struct sendq *q, size_t n);
/* Appends n bytes; false if there is no room. */
bool sendq_put(struct sendq *q, const void *bytes, size_t n);
size_t sendq_room(const struct sendq *q);

/* The first n bytes were sent. */
void sendq_consume(struct sendq *q, size_t n);
