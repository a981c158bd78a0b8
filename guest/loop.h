/* The one place that waits: epoll for descriptors, a sorted list for deadlines and one timerfd for the first
 * of them. Everything in the agent runs from a callback of this loop and returns to it without blocking.
 *
 * A turn in which no deadline passes reads no clock, neither here nor in the kernel, as a timeout of
 * epoll_wait(2) would: under TCG each reading is an access to the HPET, which leaves the emulated processor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "proto/clock.h"
#include "proto/err.h"

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* A watched descriptor, embedded in its owner (found again by container_of). The owner opens and closes fd.
 */
struct source {
	int fd; /* -1 while not watched */
	void (*ready)(struct source *s, uint32_t events);
};

/* A deadline, embedded in its owner. Fires once. */
struct timer {
	uint64_t at;               /* CLOCK_MONOTONIC, ns */
	struct timer *prev, *next; /* NULL while not armed */
	void (*fire)(struct timer *t);
};

#define LOOP_BATCH 64
struct loop {
	int epfd;
	struct source alarm; /* the timerfd */
	uint64_t alarm_at;   /* when it rings, perhaps for a deadline that is gone; 0: it does not */
	bool rang;
	struct timer timers; /* sentinel of a list sorted by deadline */
	struct epoll_event batch[LOOP_BATCH];
	int next, count; /* what of the batch is not dispatched yet */
};

int loop_init(struct loop *l, struct err *e);
void loop_finish(struct loop *l);

/* Watches fd for epoll events (EPOLLET if the owner keeps its own readiness). Done again for the same fd,
 * what is ready is announced anew. Returns 0 or -errno. */
int loop_add(struct loop *l, struct source *s, int fd, uint32_t events);
/* Stops watching; s->fd becomes -1, the descriptor stays open. No event of s is delivered afterwards, not
 * even one that has already been fetched. Harmless on a source that is not watched. */
void loop_remove(struct loop *l, struct source *s);

void timer_init(struct timer *t, void (*fire)(struct timer *t));
void timer_set(struct loop *l, struct timer *t, uint64_t at);
void timer_clear(struct timer *t);

/* Waits for events or the next deadline (not at all if busy) and runs what is due. */
void loop_turn(struct loop *l, int busy);

/* CLOCK_MONOTONIC and CLOCK_REALTIME in ns. */
uint64_t clock_mono(void);
uint64_t clock_real(void);
