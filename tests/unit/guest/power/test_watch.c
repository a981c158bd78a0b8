/* When a disk counts as low. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guest/power/watch.h"

static void low_is_below_a_tenth(void **state)
{
	(void)state;
	assert_false(watch_is_low(false, 1000, 1000));
	assert_false(watch_is_low(false, 100, 1000));
	assert_true(watch_is_low(false, 99, 1000));
	assert_true(watch_is_low(false, 0, 1000));
}

/* A disk that breathes around the mark is told of once. */
static void it_stays_low_up_to_an_eighth(void **state)
{
	(void)state;
	assert_true(watch_is_low(true, 100, 1000));
	assert_true(watch_is_low(true, 125, 1000));
	assert_false(watch_is_low(true, 126, 1000));
}

static void sizes_do_not_overflow(void **state)
{
	(void)state;
	assert_false(watch_is_low(false, UINT64_MAX, UINT64_MAX));
	assert_true(watch_is_low(false, 1, UINT64_MAX));
	assert_false(watch_is_low(false, 0, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(low_is_below_a_tenth),
		cmocka_unit_test(it_stays_low_up_to_an_eighth),
		cmocka_unit_test(sizes_do_not_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
