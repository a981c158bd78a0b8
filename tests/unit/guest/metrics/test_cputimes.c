/* /proc/stat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/cputimes.h"

static void all_processors_together(void **state)
{
	(void)state;
	Tenon__CpuTimes t = TENON__CPU_TIMES__INIT;
	uint32_t cpus;
	cputimes_parse("cpu  21221 5 11981 342441 564 7 111 22 0 0\n"
		       "cpu0 9510 0 5099 173410 57 0 24 6 0 0\n"
		       "cpu3 11711 0 6881 169030 506 0 86 15 0 0\n"
		       "intr 563821 0 0\nctxt 1690242\nbtime 1795638486\nprocesses 75127\n",
		       &t, &cpus);
	assert_int_equal(cpus, 2);
	assert_int_equal(t.user_us, 212260000);
	assert_int_equal(t.system_us, (11981 + 7 + 111) * 10000);
	assert_int_equal(t.idle_us, 3424410000);
	assert_int_equal(t.iowait_us, 5640000);
	assert_int_equal(t.steal_us, 220000);
}

static void odd_texts(void **state)
{
	(void)state;
	Tenon__CpuTimes t = TENON__CPU_TIMES__INIT;
	uint32_t cpus;
	cputimes_parse("", &t, &cpus);
	assert_int_equal(cpus, 0);
	assert_int_equal(t.user_us, 0);
	cputimes_parse("cpu  99999999999999999999 1 2", &t, &cpus); /* of a kernel that knew fewer kinds */
	assert_true(t.user_us == UINT64_MAX);
	assert_int_equal(t.system_us, 20000);
	assert_int_equal(t.steal_us, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_processors_together),
					   cmocka_unit_test(odd_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
