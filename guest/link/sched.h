/* Whose turn it is: rows in the order in which they asked, each at most once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest/exec/table.h"

struct sched {
	uint16_t order[EXEC_ROWS]; /* a circle of rows */
	uint16_t head, count;
	uint64_t queued[EXEC_ROWS / 64];
};

void sched_init(struct sched *s);
void sched_push(struct sched *s, int row); /* to the end, unless it waits already */
int sched_pop(struct sched *s);            /* -1: nobody */
static inline bool sched_empty(const struct sched *s)
{
	return s->count == 0;
}
