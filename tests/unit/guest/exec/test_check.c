/* Rows that another program left: each that is out of order is found. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/check.h"

static struct exec_row row;

static void running(void)
{
	row = (struct exec_row){.state = EXEC_RUNNING, .pid = 70, .session = 70, .error_fd = -1, .cgroup = 3};
	exec_input_init(&row.in, 10);
	row.out[0].fd = 11;
	row.out[1].fd = 12;
	row.out[0].ring = (struct ring){.base = 1000, .end = 1000 + RING_SIZE};
	row.out[0].acked = 1000;
	row.out[0].sent = 2000;
	row.out[0].limit = 100000;
	row.started_mono = 5;
}

static void exited(void)
{
	running();
	row.state = EXEC_EXITED;
	row.pid = 0;
	row.in.fd = row.out[1].fd = -1;
	row.in.closed = row.out[1].eof = true;
	row.exit.ended_mono = 6;
}

static void the_states_that_go_on(void **state)
{
	(void)state;
	for (unsigned s = 0; s < EXEC_STATES + 2; s++) {
		if (s == EXEC_EXITED || s == EXEC_ACKED)
			exited();
		else
			running();
		row.state = (enum exec_state)s;
		bool goes_on = s >= EXEC_RUNNING && s <= EXEC_ACKED;
		assert_int_equal(exec_check_row(&row, NULL), goes_on ? 0 : -EINVAL);
	}
}

/* What an Attach, a drop and the two ends of stdin make of a row. */
static void what_is_unusual_and_in_order(void **state)
{
	(void)state;
	running();
	row.out[0].sent = 500; /* a gap is due */
	row.cgroup = -1;
	assert_int_equal(exec_check_row(&row, NULL), 0);
	exec_input_end(&row.in, 0);
	row.in.fd = -1;
	assert_int_equal(exec_check_row(&row, NULL), 0);
	exec_input_init(&row.in, -1);
	assert_int_equal(exec_check_row(&row, NULL), 0);
}

#define REFUSED(set_up, change)                                      \
	do {                                                         \
		struct err e;                                        \
		set_up();                                            \
		assert_int_equal(exec_check_row(&row, &e), 0);       \
		change;                                              \
		assert_int_equal(exec_check_row(&row, &e), -EINVAL); \
	} while (0)

static void set_byte(bool *b)
{
	memset(b, 2, 1);
}

static void each_that_is_out_of_order(void **state)
{
	(void)state;
	REFUSED(running, row.pid = 71);
	REFUSED(running, row.pid = row.session = 1);
	REFUSED(running, row.pid = row.session = -70);
	REFUSED(running, row.error_fd = 9);
	REFUSED(running, row.cgroup = 1024);
	REFUSED(running, row.cgroup = -2);
	REFUSED(running, set_byte(&row.drop_oldest));
	REFUSED(running, set_byte(&row.timed_out));
	REFUSED(running, set_byte(&row.tty));
	REFUSED(running, set_byte(&row.in.closed));
	REFUSED(running, row.in.fd = -1);
	REFUSED(running, row.in.ring.base = 1);
	REFUSED(running, row.in.told_end = 1);
	REFUSED(running, row.in.told_limit = RING_SIZE + 1);
	REFUSED(running, row.out[0].ring.base = 999);
	REFUSED(running, row.out[0].ring.base = row.out[0].ring.end + 1);
	REFUSED(running, row.out[0].ring.end = row.out[0].ring.base = WIRE_OFFSET_END);
	REFUSED(running, row.out[0].acked = row.out[0].ring.end + 1);
	REFUSED(running, row.out[0].sent = row.out[0].ring.end + 1);
	REFUSED(running, row.out[0].limit = WIRE_OFFSET_END);
	REFUSED(running, row.out[1].fd = -1);
	REFUSED(running, row.out[1].eof = true);
	REFUSED(running, set_byte(&row.out[1].hung_up));
	REFUSED(exited, row.pid = 70);
	REFUSED(exited, row.exit.ended_mono = 4);
	REFUSED(exited, set_byte(&row.exit.oom_killed));
	REFUSED(exited, set_byte(&row.exit.open[1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_states_that_go_on),
		cmocka_unit_test(what_is_unusual_and_in_order),
		cmocka_unit_test(each_that_is_out_of_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
