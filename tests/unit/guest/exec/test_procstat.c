/* /proc/PID/stat, whose second field may hold anything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/procstat.h"

static void finds_a_field(void **state)
{
	(void)state;
	uint64_t v;
	assert_int_equal(procstat_field("12 (sh) S 1 12 34 0 -1", PROCSTAT_SESSION, &v), 0);
	assert_int_equal(v, 34);
	assert_int_equal(procstat_field("12 (a) S 1 2 3) R 1 12 77 0 -1", PROCSTAT_SESSION, &v), 0);
	assert_int_equal(v, 77);
	assert_int_equal(
		procstat_field("7 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22222222222 23",
			       PROCSTAT_STARTED, &v),
		0);
	assert_true(v == 22222222222);
}

static void refuses_what_is_no_stat(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "12", "12 (sh)", "12 (sh) S", "12 (sh) S 1 2", "12 (sh) S 1 2 x", ")"};
	uint64_t v;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(procstat_field(bad[i], PROCSTAT_SESSION, &v), -EINVAL);
	assert_int_equal(procstat_field("7 (x) S 4 5 6", PROCSTAT_STARTED, &v), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(finds_a_field),
					   cmocka_unit_test(refuses_what_is_no_stat)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
