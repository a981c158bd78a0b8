/* A small event loop over epoll: descriptors, timers, and tasks that want another turn. One thread.
 * Everything is embedded in its owner, and the owner removes it before it goes away. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define LOOP_BATCH 64

struct loop_source {
	int fd; /* borrowed; -1: not added */
	void (*ready)(struct loop_source *src, uint32_t events);
};

struct loop_timer {
	uint64_t at_ms;
	void (*fired)(struct loop_timer *timer);
	struct loop_timer *prev, *next;
	bool armed;
};

/* Work that yielded to the descriptors and goes on in the next turn. */
struct loop_task {
	void (*run)(struct loop_task *task);
	struct loop_task *next;
	bool queued;
};

struct loop {
	int epfd;
	struct epoll_event batch[LOOP_BATCH];
	int batch_at, batch_n;
	struct loop_timer timers; /* head of a ring, soonest first */
	struct loop_task *tasks, **tasks_end;
	struct loop_task mark; /* ends a turn's share of the tasks */
	bool quit;
};

/* Milliseconds of CLOCK_MONOTONIC. */
uint64_t loop_now_ms(void);

/* 0 or -errno of epoll_create1(2). */
int loop_init(struct loop *l);
void loop_finish(struct loop *l);

/* Watches fd (not owned) for events, in the words of epoll_ctl(2). 0 or -errno. */
int loop_add(struct loop *l, struct loop_source *src, int fd, uint32_t events,
	     void (*ready)(struct loop_source *, uint32_t));

/* Stops watching, and forgets what the current batch still holds for src. Harmless when not added. */
void loop_remove(struct loop *l, struct loop_source *src);

/* Calls fired once, ms milliseconds from now; arming again moves it. */
void loop_arm(struct loop *l, struct loop_timer *t, unsigned ms, void (*fired)(struct loop_timer *));
void loop_disarm(struct loop_timer *t);

/* Calls run once in the next turn, after that turn's descriptors. Deferring twice is once. */
void loop_defer(struct loop *l, struct loop_task *t, void (*run)(struct loop_task *));
void loop_cancel(struct loop *l, struct loop_task *t);

/* One turn: waits at most max_ms (-1: for ever) for something to do, does it. 0 or -errno of epoll_wait(2).
 */
int loop_turn(struct loop *l, int max_ms);

/* Turns until somebody sets l->quit. */
int loop_run(struct loop *l);
