#include "guest/link/sched.h"

void sched_init(struct sched *s)
{
	*s = (struct sched){0};
}

void sched_push(struct sched *s, int row)
{
	uint64_t bit = 1ULL << row % 64;
	if (s->queued[row / 64] & bit)
		return;
	s->queued[row / 64] |= bit;
	s->order[(s->head + s->count++) % EXEC_ROWS] = (uint16_t)row;
}

int sched_pop(struct sched *s)
{
	if (s->count == 0)
		return -1;
	int row = s->order[s->head];
	s->head = (uint16_t)((s->head + 1) % EXEC_ROWS);
	s->count--;
	s->queued[row / 64] &= ~(1ULL << row % 64);
	return row;
}
