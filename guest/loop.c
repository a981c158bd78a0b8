#include "guest/loop.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

uint64_t clock_mono(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_real(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int loop_init(struct loop *l, struct err *e)
{
	*l = (struct loop){.epfd = epoll_create1(EPOLL_CLOEXEC)};
	l->timers.prev = l->timers.next = &l->timers;
	if (l->epfd < 0)
		return err_sys(e, "epoll", errno, "cannot create the event loop");
	return 0;
}

void loop_finish(struct loop *l)
{
	close(l->epfd);
	l->epfd = -1;
}

int loop_add(struct loop *l, struct source *s, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};
	if (epoll_ctl(l->epfd, s->fd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) < 0)
		return -errno;
	s->fd = fd;
	return 0;
}

void loop_remove(struct loop *l, struct source *s)
{
	if (s->fd < 0)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
	for (int i = l->next; i < l->count; i++)
		if (l->batch[i].data.ptr == s)
			l->batch[i].data.ptr = NULL;
}

void timer_init(struct timer *t, void (*fire)(struct timer *t))
{
	*t = (struct timer){.fire = fire};
}

void timer_set(struct loop *l, struct timer *t, uint64_t at)
{
	timer_clear(t);
	t->at = at;
	/* From the end: most deadlines are set for later than those already there. */
	struct timer *after = l->timers.prev;
	while (after != &l->timers && after->at > at)
		after = after->prev;
	t->prev = after;
	t->next = after->next;
	t->next->prev = t;
	after->next = t;
}

void timer_clear(struct timer *t)
{
	if (!t->next)
		return;
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->prev = t->next = NULL;
}

static int wait_ms(const struct loop *l)
{
	if (l->timers.next == &l->timers)
		return -1;
	uint64_t now = clock_mono(), at = l->timers.next->at;
	if (at <= now)
		return 0;
	uint64_t ms = (at - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void run_timers(struct loop *l)
{
	if (l->timers.next == &l->timers)
		return;
	/* One reading of the clock: a callback that arms itself anew a little later cannot hold the loop. */
	for (uint64_t now = clock_mono(); l->timers.next != &l->timers && l->timers.next->at <= now;) {
		struct timer *t = l->timers.next;
		timer_clear(t);
		t->fire(t);
	}
}

void loop_turn(struct loop *l, int busy)
{
	int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, busy ? 0 : wait_ms(l));
	l->count = n > 0 ? n : 0;
	for (l->next = 0; l->next < l->count;) {
		struct epoll_event *ev = &l->batch[l->next++];
		struct source *s = ev->data.ptr;
		if (s)
			s->ready(s, ev->events);
	}
	run_timers(l);
}
