#include "guest/loop.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "proto/cleanup.h"

uint64_t clock_mono(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_real(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static void on_alarm(struct source *s, uint32_t events)
{
	(void)events;
	container_of(s, struct loop, alarm)->rang = true;
}

int loop_init(struct loop *l, struct err *e)
{
	*l = (struct loop){.epfd = epoll_create1(EPOLL_CLOEXEC), .alarm = {-1, on_alarm}};
	l->timers.prev = l->timers.next = &l->timers;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->epfd >= 0 && fd >= 0 && loop_add(l, &l->alarm, fd, EPOLLIN | EPOLLET) == 0)
		return 0;
	int r = err_sys(e, "epoll", errno, "cannot create the event loop");
	close_fd(&fd);
	close_fd(&l->epfd);
	return r;
}

void loop_finish(struct loop *l)
{
	close_fd(&l->alarm.fd);
	close_fd(&l->epfd);
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

/* An alarm that rings for a deadline that was moved or cleared is left as it is: one turn for nothing is
 * cheaper than a system call each time. */
static void set_alarm(struct loop *l)
{
	uint64_t at = l->timers.next->at;
	at += at == 0; /* which would be never */
	if (l->timers.next == &l->timers || (l->alarm_at && l->alarm_at <= at))
		return;
	l->alarm_at = at;
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(l->alarm_at / NSEC_PER_SEC),
					       .tv_nsec = (long)(l->alarm_at % NSEC_PER_SEC)}};
	timerfd_settime(l->alarm.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void run_timers(struct loop *l)
{
	l->rang = false;
	l->alarm_at = 0;
	/* One reading of the clock: a callback that arms itself anew a little later cannot hold the loop. */
	for (uint64_t now = clock_mono(); l->timers.next != &l->timers && l->timers.next->at <= now;) {
		struct timer *t = l->timers.next;
		timer_clear(t);
		t->fire(t);
	}
}

void loop_turn(struct loop *l, int busy)
{
	set_alarm(l);
	int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, busy ? 0 : -1);
	l->count = n > 0 ? n : 0;
	for (l->next = 0; l->next < l->count;) {
		struct epoll_event *ev = &l->batch[l->next++];
		struct source *s = ev->data.ptr;
		if (s)
			s->ready(s, ev->events);
	}
	if (l->rang)
		run_timers(l);
}
