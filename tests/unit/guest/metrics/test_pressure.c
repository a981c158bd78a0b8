/* /proc/pressure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/pressure.h"

static void both_lines(void **state)
{
	(void)state;
	Tenon__Pressure p = TENON__PRESSURE__INIT;
	pressure_parse("some avg10=11.59 avg60=8.68 avg300=3.31 total=22618657\n"
		       "full avg10=0.07 avg60=0.00 avg300=0.00 total=44",
		       &p);
	assert_int_equal(p.some_us, 22618657);
	assert_int_equal(p.some_avg10_milli, 11590);
	assert_int_equal(p.full_us, 44);
	assert_int_equal(p.full_avg10_milli, 70);
}

static void odd_texts(void **state)
{
	(void)state;
	Tenon__Pressure p = TENON__PRESSURE__INIT;
	pressure_parse("some avg10=1.00 avg60=0.00 avg300=0.00 total=5\n", &p); /* no "full" */
	assert_int_equal(p.some_us, 5);
	assert_int_equal(p.full_us, 0);
	pressure_parse("", &p);
	pressure_parse("some\nfull total=\nfull total=7", &p);
	assert_int_equal(p.some_us, 5);
	assert_int_equal(p.full_us, 0);
	pressure_parse("some total=99999999999999999999 avg10=99999999999", &p);
	assert_true(p.some_us == UINT64_MAX);
	assert_int_equal(p.some_avg10_milli, UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(both_lines), cmocka_unit_test(odd_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
