/* /proc/loadavg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/loadavg.h"

static void three_terms(void **state)
{
	(void)state;
	uint32_t m[LOADAVG_TERMS];
	loadavg_parse("1.11 0.86 12.4 2/107 10211\n", m);
	assert_int_equal(m[0], 1110);
	assert_int_equal(m[1], 860);
	assert_int_equal(m[2], 12400);
	loadavg_parse("9999999999999.99", m);
	assert_int_equal(m[0], UINT32_MAX);
	assert_int_equal(m[1], 0);
	loadavg_parse("", m);
	assert_int_equal(m[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(three_terms)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
