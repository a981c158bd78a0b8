/* The event loop: deadlines in order, and no event for what was removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/loop.h"

static struct loop loop;
static int fired[8], n_fired;

struct numbered {
	struct timer timer;
	int number;
};

static void on_timer(struct timer *t)
{
	fired[n_fired++] = container_of(t, struct numbered, timer)->number;
}

static void deadlines_fire_in_order(void **state)
{
	(void)state;
	struct numbered t[4];
	uint64_t now = clock_mono();
	assert_int_equal(loop_init(&loop, NULL), 0);
	n_fired = 0;
	const int delay_ms[4] = {2, 1, 3, 1};
	for (int i = 0; i < 4; i++) {
		t[i].number = i;
		timer_init(&t[i].timer, on_timer);
		timer_set(&loop, &t[i].timer, now + (uint64_t)delay_ms[i] * NSEC_PER_MSEC);
	}
	timer_set(&loop, &t[0].timer, now + 4 * NSEC_PER_MSEC); /* moved */
	timer_clear(&t[2].timer);
	timer_clear(&t[2].timer);
	while (n_fired < 3)
		loop_turn(&loop, 0);
	assert_int_equal(fired[0], 1);
	assert_int_equal(fired[1], 3);
	assert_int_equal(fired[2], 0);
	assert_true(clock_mono() - now >= 4 * NSEC_PER_MSEC);
	loop_finish(&loop);
}

/* An alarm that was set for a deadline that is gone rings once for nothing; an earlier one comes first. */
static void an_alarm_outlives_its_deadline(void **state)
{
	(void)state;
	struct numbered late = {.number = 1}, early = {.number = 2};
	uint64_t began = clock_mono();
	assert_int_equal(loop_init(&loop, NULL), 0);
	n_fired = 0;
	timer_init(&late.timer, on_timer);
	timer_init(&early.timer, on_timer);
	timer_set(&loop, &late.timer, began + 20 * NSEC_PER_MSEC);
	loop_turn(&loop, 1);
	timer_clear(&late.timer);
	timer_set(&loop, &early.timer, began + 10 * NSEC_PER_MSEC);
	while (n_fired == 0)
		loop_turn(&loop, 0);
	assert_int_equal(fired[0], 2);
	assert_true(clock_mono() - began >= 10 * NSEC_PER_MSEC);

	timer_set(&loop, &early.timer, clock_mono() + 10 * NSEC_PER_MSEC);
	loop_turn(&loop, 1);
	timer_set(&loop, &early.timer, began + 60 * NSEC_PER_MSEC); /* moved, and the alarm is not */
	loop_turn(&loop, 0);
	assert_int_equal(n_fired, 1);
	assert_true(clock_mono() - began < 60 * NSEC_PER_MSEC);
	timer_set(&loop, &late.timer, 0); /* long due */
	while (n_fired < 3)
		loop_turn(&loop, 0);
	assert_int_equal(fired[1], 1);
	assert_int_equal(fired[2], 2);
	assert_true(clock_mono() - began >= 60 * NSEC_PER_MSEC);
	loop_finish(&loop);
}

static struct source sources[2];
static int events;

/* Whichever comes first removes the other, whose event has been fetched already. */
static void remove_other(struct source *s, uint32_t ev)
{
	(void)ev;
	events++;
	loop_remove(&loop, s == &sources[0] ? &sources[1] : &sources[0]);
}

static void what_was_removed_is_not_called(void **state)
{
	(void)state;
	int fds[2][2];
	assert_int_equal(loop_init(&loop, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		sources[i] = (struct source){-1, remove_other};
		assert_int_equal(loop_add(&loop, &sources[i], fds[i][0], EPOLLIN), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
	}
	events = 0;
	loop_turn(&loop, 1);
	assert_int_equal(events, 1);
	for (int i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	loop_finish(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(deadlines_fire_in_order),
					   cmocka_unit_test(an_alarm_outlives_its_deadline),
					   cmocka_unit_test(what_was_removed_is_not_called)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
