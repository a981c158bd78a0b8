/* The table of boxes/state.c, walked: every cell, and what must hold whatever the cells say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/boxes/state.h"

/* One row per state: the name after each event, "-" for cannot happen. */
static const struct {
	enum box_status state;
	const char *after[BOX_EVENTS]; /* start, up, stop, ended, failed */
} rows[] = {
	{BOX_CONFIGURED, {"starting", "-", "configured", "-", "-"}},
	{BOX_STARTING, {"starting", "running", "stopping", "failed", "failed"}},
	{BOX_RUNNING, {"running", "-", "stopping", "stopped", "failed"}},
	{BOX_STOPPING, {"stopping", "stopping", "stopping", "stopped", "stopped"}},
	{BOX_STOPPED, {"starting", "-", "stopped", "-", "-"}},
	{BOX_FAILED, {"starting", "-", "failed", "-", "-"}},
};

static void every_cell(void **state)
{
	(void)state;
	assert_int_equal(sizeof rows / sizeof *rows, BOX_STATES);
	for (int i = 0; i < BOX_STATES; i++) {
		for (int event = 0; event < BOX_EVENTS; event++) {
			int next = state_next(rows[i].state, (enum box_event)event);
			assert_string_equal(next < 0 ? "-" : state_name((enum box_status)next), rows[i].after[event]);
		}
	}
}

static void laws(void **state)
{
	(void)state;
	for (int s = 0; s < BOX_STATES; s++) {
		enum box_status now = (enum box_status)s;
		/* What people ask for can always be asked. */
		assert_true(state_next(now, EVENT_START) >= 0);
		assert_true(state_next(now, EVENT_STOP) >= 0);
		/* A VM is lost only by its end, and an end leaves none. */
		for (int event = 0; event < BOX_EVENTS; event++) {
			int next = state_next(now, (enum box_event)event);
			bool end = event == EVENT_ENDED || event == EVENT_FAILED;
			if (next >= 0 && end)
				assert_false(state_has_vm((enum box_status)next));
			else if (next >= 0 && state_has_vm(now))
				assert_true(state_has_vm((enum box_status)next));
			else if (next < 0 && end)
				assert_false(state_has_vm(now));
		}
	}
}

static void names(void **state)
{
	(void)state;
	for (int s = 0; s < BOX_STATES; s++) {
		enum box_status back;
		assert_int_equal(state_parse(&back, state_name((enum box_status)s)), 0);
		assert_int_equal(back, s);
	}
	enum box_status none;
	assert_int_equal(state_parse(&none, "Running"), -EINVAL);
	assert_int_equal(state_parse(&none, ""), -EINVAL);
	assert_int_equal(state_parse(&none, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell),
		cmocka_unit_test(laws),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
