/* Which of the pool's cgroups a process is in, by its /proc/PID/cgroup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guest/exec/cgroup.h"

static void those_of_the_pool(void **state)
{
	(void)state;
	assert_int_equal(cgroup_parse("0::/box/e0\n"), 0);
	assert_int_equal(cgroup_parse("0::/box/e1023"), 1023);
	assert_int_equal(cgroup_parse("0::/box/e12/made/by the box\n"), 12);
	assert_int_equal(cgroup_parse("0::/box/e12 (deleted)\n"), 12);
	assert_int_equal(cgroup_parse("9:memory:/box/e3\n1:name=systemd:/\n0::/box/e4\n"), 4);
}

static void others(void **state)
{
	(void)state;
	static const char *const texts[] = {"",
					    "0::/\n",
					    "0::/agent\n",
					    "0::/box\n",
					    "0::/box/e\n",
					    "0::/box/ex\n",
					    "0::/box/e1x\n",
					    "0::/box/e1024\n",
					    "0::/box/e99999999999999999999\n",
					    "0::/else/box/e1\n",
					    "9:memory:/box/e3\n"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_int_equal(cgroup_parse(texts[i]), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(those_of_the_pool), cmocka_unit_test(others)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
