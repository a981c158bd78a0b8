#include "loop.h"

#include "proto/cleanup.h"
#include "proto/clock.h"

#include <errno.h>

uint64_t loop_now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

int loop_init(struct loop *l)
{
	*l = (struct loop){.epfd = epoll_create1(EPOLL_CLOEXEC)};
	l->timers.prev = l->timers.next = &l->timers;
	l->tasks_end = &l->tasks;
	return l->epfd < 0 ? -errno : 0;
}

void loop_finish(struct loop *l)
{
	close_fd(&l->epfd);
}

int loop_add(struct loop *l, struct loop_source *src, int fd, uint32_t events,
	     void (*ready)(struct loop_source *, uint32_t))
{
	struct epoll_event ev = {.events = events, .data.ptr = src};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	src->fd = fd;
	src->ready = ready;
	return 0;
}

void loop_remove(struct loop *l, struct loop_source *src)
{
	if (src->fd < 0)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, src->fd, NULL);
	src->fd = -1;
	for (int i = l->batch_at; i < l->batch_n; i++)
		if (l->batch[i].data.ptr == src)
			l->batch[i].data.ptr = NULL;
}

void loop_arm(struct loop *l, struct loop_timer *t, unsigned ms, void (*fired)(struct loop_timer *))
{
	loop_disarm(t);
	t->at_ms = loop_now_ms() + ms;
	t->fired = fired;
	t->armed = true;
	/* From the far end: most timers have the same length, so the walk is short. */
	struct loop_timer *after = l->timers.prev;
	while (after != &l->timers && after->at_ms > t->at_ms)
		after = after->prev;
	t->prev = after;
	t->next = after->next;
	t->prev->next = t;
	t->next->prev = t;
}

void loop_disarm(struct loop_timer *t)
{
	if (!t->armed)
		return;
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->armed = false;
}

void loop_defer(struct loop *l, struct loop_task *t, void (*run)(struct loop_task *))
{
	if (t->queued)
		return;
	t->run = run;
	t->next = NULL;
	t->queued = true;
	*l->tasks_end = t;
	l->tasks_end = &t->next;
}

void loop_cancel(struct loop *l, struct loop_task *t)
{
	if (!t->queued)
		return;
	struct loop_task **at = &l->tasks;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	if (l->tasks_end == &t->next)
		l->tasks_end = at;
	t->queued = false;
}

static int wait_ms(const struct loop *l, int max_ms)
{
	if (l->tasks)
		return 0;
	if (l->timers.next == &l->timers)
		return max_ms;
	uint64_t now = loop_now_ms(), at = l->timers.next->at_ms;
	uint64_t left = at > now ? at - now : 0;
	if (max_ms >= 0 && left > (uint64_t)max_ms)
		return max_ms;
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

static void run_tasks(struct loop *l)
{
	/* Only those that were queued before: a task that defers itself waits for the next turn. */
	loop_defer(l, &l->mark, NULL);
	while (l->tasks != &l->mark) {
		struct loop_task *t = l->tasks;
		loop_cancel(l, t);
		t->run(t);
	}
	loop_cancel(l, &l->mark);
}

int loop_turn(struct loop *l, int max_ms)
{
	int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, wait_ms(l, max_ms));
	if (n < 0 && errno != EINTR)
		return -errno;

	l->batch_n = n < 0 ? 0 : n;
	for (l->batch_at = 0; l->batch_at < l->batch_n;) {
		struct epoll_event ev = l->batch[l->batch_at++];
		struct loop_source *src = ev.data.ptr;
		if (src)
			src->ready(src, ev.events);
	}
	l->batch_n = l->batch_at = 0;

	while (l->timers.next != &l->timers && l->timers.next->at_ms <= loop_now_ms()) {
		struct loop_timer *t = l->timers.next;
		loop_disarm(t);
		t->fired(t);
	}
	if (l->tasks)
		run_tasks(l);
	return 0;
}

int loop_run(struct loop *l)
{
	while (!l->quit) {
		int r = loop_turn(l, -1);
		if (r < 0)
			return r;
	}
	return 0;
}
