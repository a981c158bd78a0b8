/* /proc/PID/stat, whose second field may hold anything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/session.h"

static void finds_the_session(void **state)
{
	(void)state;
	int sid;
	assert_int_equal(session_parse_stat("12 (sh) S 1 12 34 0 -1", &sid), 0);
	assert_int_equal(sid, 34);
	assert_int_equal(session_parse_stat("12 (a) S 1 2 3) R 1 12 77 0 -1", &sid), 0);
	assert_int_equal(sid, 77);
}

static void refuses_what_is_no_stat(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "12", "12 (sh)", "12 (sh) S", "12 (sh) S 1 2", "12 (sh) S 1 2 x", ")"};
	int sid;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(session_parse_stat(bad[i], &sid), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(finds_the_session),
					   cmocka_unit_test(refuses_what_is_no_stat)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
