/* The pool and the limits, on a tree of plain files: what is written where, and what an absent control means.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec/cgroup.h"

#define FIRST_LIMITED (CGROUP_POOL - 1)

static char root[64];
static struct cgroup_pool pool;
static struct fault fault;
static const struct cgroup_limits none;

static const char *path_of(int cg, const char *file)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/e%d/%s", root, cg, file);
	return path;
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void put(int cg, const char *file, const char *text)
{
	put_file(path_of(cg, file), text);
}

static void put_pool(const char *text)
{
	char path[128];
	snprintf(path, sizeof path, "%s/memory.events", root);
	put_file(path, text);
}

static void holds(int cg, const char *file, const char *text)
{
	char got[64] = "";
	FILE *f = fopen(path_of(cg, file), "r");
	assert_non_null(f);
	assert_true(fgets(got, sizeof got, f) || !*text);
	fclose(f);
	assert_string_equal(got, text);
}

/* As the kernel would make it. */
static void make_cgroup(int cg)
{
	static const char *const files[] = {"memory.max", "memory.high", "pids.max", "cpu.max", "cpu.weight"};
	char path[128];
	snprintf(path, sizeof path, "%s/e%d", root, cg);
	mkdir(path, 0755);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		put(cg, files[i], "");
	put(cg, "cgroup.events", "populated 0\nfrozen 0\n");
	put(cg, "memory.events", "low 0\noom_kill 0\n");
}

static int setup(void **state)
{
	(void)state;
	struct err e;
	strcpy(root, "/tmp/tenon-cgroup-XXXXXX");
	assert_non_null(mkdtemp(root));
	for (int i = 0; i < 6; i++)
		make_cgroup(i);
	put_pool("");
	return cgroup_pool_init(&pool, root, &e);
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	for (int i = 0; i < CGROUP_POOL; i++)
		if (pool.entries[i].made)
			close(pool.entries[i].dir);
	close(pool.root);
	close(pool.events);
	memset(&pool, 0, sizeof pool);
	snprintf(command, sizeof command, "rm -r %s", root);
	return system(command);
}

static int take(const struct cgroup_limits *l)
{
	int cg = -1;
	assert_int_equal(cgroup_take(&pool, l, &cg, &fault), 0);
	return cg;
}

static void without_limits_the_lowest_free_one(void **state)
{
	(void)state;
	assert_int_equal(take(&none), 0);
	assert_int_equal(take(&none), 1);
	cgroup_give_back(&pool, 0);
	assert_int_equal(take(&none), 0);
	put(1, "cgroup.events", "populated 1\n");
	cgroup_give_back(&pool, 1);
	assert_int_equal(take(&none), 2); /* somebody is still in 1 */
	put(1, "cgroup.events", "populated 0\n");
	assert_int_equal(take(&none), 1);
}

static void limits_are_written_before_anybody_is_in_it(void **state)
{
	(void)state;
	make_cgroup(FIRST_LIMITED);
	make_cgroup(FIRST_LIMITED - 1);
	make_cgroup(FIRST_LIMITED - 2);
	const struct cgroup_limits all = {1 << 30, 1 << 29, 64, 50000, 0, 200};
	int cg = take(&all);
	assert_int_equal(cg, FIRST_LIMITED);
	holds(cg, "memory.max", "1073741824");
	holds(cg, "memory.high", "536870912");
	holds(cg, "pids.max", "64");
	holds(cg, "cpu.max", "50000 100000");
	holds(cg, "cpu.weight", "200");
	const struct cgroup_limits both = {.cpu_quota_us = 2000, .cpu_period_us = 4000};
	cg = take(&both);
	holds(cg, "cpu.max", "2000 4000");
	holds(cg, "memory.max", "");
	const struct cgroup_limits period = {.cpu_period_us = 4000};
	holds(take(&period), "cpu.max", "max 4000");
}

static void limits_go_with_their_cgroup(void **state)
{
	(void)state;
	make_cgroup(FIRST_LIMITED);
	make_cgroup(FIRST_LIMITED - 1);
	const struct cgroup_limits l = {.pids_max = 3};
	int cg = take(&l);
	cgroup_give_back(&pool, cg); /* plain files: it cannot be removed */
	assert_int_equal(take(&l), FIRST_LIMITED - 1);
	for (int i = 0; i < CGROUP_POOL; i++)
		if (i != cg)
			pool.entries[i].use = CGROUP_BUSY;
	int left;
	assert_int_equal(cgroup_take(&pool, &none, &left, &fault), 0);
	assert_int_equal(left, -1); /* rather none than that one */
}

static void a_control_that_is_not_there(void **state)
{
	(void)state;
	make_cgroup(FIRST_LIMITED);
	unlink(path_of(FIRST_LIMITED, "memory.high"));
	const struct cgroup_limits l = {.memory_max = 4096, .memory_high = 4096};
	int cg;
	assert_int_equal(cgroup_take(&pool, &l, &cg, &fault), -EOPNOTSUPP);
	assert_int_equal(fault.code, TENON__CODE__CODE_UNSUPPORTED);
	assert_string_equal(fault.field, "exec.resources.memory_high");
	assert_int_not_equal(pool.entries[FIRST_LIMITED].use, CGROUP_BUSY);
}

static void where_there_are_no_cgroups(void **state)
{
	(void)state;
	static struct cgroup_pool absent;
	static const struct {
		struct cgroup_limits l;
		const char *field;
	} cases[] = {{{.memory_max = 1}, "exec.resources.memory_max"},
		     {{.memory_high = 1}, "exec.resources.memory_high"},
		     {{.pids_max = 1}, "exec.resources.pids_max"},
		     {{.cpu_quota_us = 1000}, "exec.resources.cpu_quota_us"},
		     {{.cpu_period_us = 1000}, "exec.resources.cpu_period_us"},
		     {{.cpu_weight = 1}, "exec.resources.cpu_weight"}};
	int cg = 0;
	cgroup_pool_init_none(&absent);
	assert_int_equal(cgroup_take(&absent, &none, &cg, &fault), 0);
	assert_int_equal(cg, -1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(cgroup_take(&absent, &cases[i].l, &cg, &fault), -EOPNOTSUPP);
		assert_int_equal(fault.code, TENON__CODE__CODE_UNSUPPORTED);
		assert_string_equal(fault.field, cases[i].field);
	}
}

static void an_oom_kill_is_told_once_and_is_one_users(void **state)
{
	(void)state;
	uint64_t kills;
	int cg = take(&none);
	assert_int_equal(cgroup_oom_kills(&pool, cg), 0);
	put(cg, "memory.events", "low 0\noom_kill 2\n");
	assert_int_equal(cgroup_oom_kills(&pool, cg), 2);
	assert_int_equal(cgroup_oom_news(&pool, &kills), cg);
	assert_int_equal(kills, 2);
	assert_int_equal(cgroup_oom_news(&pool, &kills), -1);
	cgroup_give_back(&pool, cg);
	assert_int_equal(take(&none), cg);
	assert_int_equal(cgroup_oom_kills(&pool, cg), 0);
}

/* Where the pool's own counter stands still nobody was killed, and the one of the execution is not even
 * opened. */
static void a_pool_without_kills_has_none_in_it(void **state)
{
	(void)state;
	put_pool("oom_kill 3\n");
	int cg = take(&none);
	put(cg, "memory.events", "low 0\noom_kill 2\n");
	assert_int_equal(cgroup_oom_kills(&pool, cg),
			 2); /* the pool's was not read before: nothing is known */
	cgroup_give_back(&pool, cg);
	assert_int_equal(take(&none), cg);
	put(cg, "memory.events", "low 0\noom_kill 9\n");
	assert_int_equal(cgroup_oom_kills(&pool, cg), 0);
	put_pool("oom_kill 10\n");
	assert_int_equal(cgroup_oom_kills(&pool, cg), 7);
}

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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(those_of_the_pool),
		cmocka_unit_test(others),
		cmocka_unit_test_setup_teardown(without_limits_the_lowest_free_one, setup, teardown),
		cmocka_unit_test_setup_teardown(limits_are_written_before_anybody_is_in_it, setup, teardown),
		cmocka_unit_test_setup_teardown(limits_go_with_their_cgroup, setup, teardown),
		cmocka_unit_test_setup_teardown(a_control_that_is_not_there, setup, teardown),
		cmocka_unit_test_setup_teardown(where_there_are_no_cgroups, setup, teardown),
		cmocka_unit_test_setup_teardown(an_oom_kill_is_told_once_and_is_one_users, setup, teardown),
		cmocka_unit_test_setup_teardown(a_pool_without_kills_has_none_in_it, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
