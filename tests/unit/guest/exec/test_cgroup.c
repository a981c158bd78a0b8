/* Which lines of /proc/PID/cgroup are a process of the box's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guest/exec/cgroup.h"

static void holds_what_is_below(void **state)
{
	(void)state;
	struct cgroup_pool p = {.root = 0, .path = "/sys/fs/cgroup/box"};
	assert_true(cgroup_holds(&p, "0::/box/e3\n"));
	assert_true(cgroup_holds(&p, "0::/box/e3/of/the/box\n"));
	assert_true(cgroup_holds(&p, "4:memory:/x\n0::/box/e12"));
	assert_false(cgroup_holds(&p, "0::/box\n"));
	assert_false(cgroup_holds(&p, "0::/boxes/e3\n"));
	assert_false(cgroup_holds(&p, "0::/agent\n"));
	assert_false(cgroup_holds(&p, "0::/\n"));
	assert_false(cgroup_holds(&p, "4:memory:/box/e3\n"));
	assert_false(cgroup_holds(&p, "4:name=0::/box/e3:/\n0::/\n"));
	assert_false(cgroup_holds(&p, ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(holds_what_is_below)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
