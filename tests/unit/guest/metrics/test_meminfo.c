/* /proc/meminfo. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/meminfo.h"

static void what_it_says(void **state)
{
	(void)state;
	Tenon__MemoryUse m = TENON__MEMORY_USE__INIT;
	meminfo_parse(
		"MemTotal:        4015132 kB\nMemFree:          211304 kB\nMemAvailable:    3502112 kB\n"
		"Buffers:           10452 kB\nCached:          3190632 kB\nSwapCached:            9 kB\n"
		"SwapTotal:          1024 kB\nSwapFree:            512 kB",
		&m);
	assert_int_equal(m.total, 4015132UL * 1024);
	assert_int_equal(m.free, 211304 * 1024);
	assert_int_equal(m.available, 3502112UL * 1024);
	assert_int_equal(m.cached, 3190632UL * 1024);
	assert_int_equal(m.swap_total, 1024 * 1024);
	assert_int_equal(m.swap_free, 512 * 1024);
}

static void odd_texts(void **state)
{
	(void)state;
	Tenon__MemoryUse m = TENON__MEMORY_USE__INIT;
	meminfo_parse("", &m);
	assert_int_equal(m.total, 0);
	meminfo_parse("MemTotal: 99999999999999999999 kB\nMemFree:\nMemAvailable: kB\n", &m);
	assert_true(m.total == UINT64_MAX);
	assert_int_equal(m.free, 0);
	assert_int_equal(m.available, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_it_says), cmocka_unit_test(odd_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
