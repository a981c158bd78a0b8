/* /proc/PID: what the kernel writes, what a process may have put into it, and this very process. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/proc.h"

#define REST                                                                                               \
	" 12 34 34816 -1 4194304 99 0 1 0 150 25 7 8 20 -5 3 0 188813 3133440 359 18446744073709551615 1 " \
	"2\n"

static void all_fields(void **state)
{
	(void)state;
	struct proc_stat s;
	assert_int_equal(proc_parse_stat("12 (sh) S 1" REST, &s), 0);
	assert_int_equal(s.state, 'S');
	assert_int_equal(s.ppid, 1);
	assert_int_equal(s.session, 34);
	assert_false(s.kernel);
	assert_int_equal(s.user_ticks, 150);
	assert_int_equal(s.system_ticks, 25);
	assert_int_equal(s.threads, 3);
	assert_int_equal(s.started_ticks, 188813);
	assert_int_equal(s.rss_pages, 359);
}

static void the_kernels_own(void **state)
{
	(void)state;
	struct proc_stat s;
	assert_int_equal(
		proc_parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 1 0 0 20 0 1 0 1 0 0 1\n", &s),
		0);
	assert_true(s.kernel);
	assert_int_equal(s.session, 0);
}

static void names_that_pretend(void **state)
{
	(void)state;
	static const char *const names[] = {"(a) R 7 7 7)", "()", "()) Z 1 2 3)", "(a\\n) S 9 9 9)", "( )"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char text[256] = "12 ";
		struct proc_stat s;
		strcat(strcat(text, names[i]), " T 5" REST);
		assert_int_equal(proc_parse_stat(text, &s), 0);
		assert_int_equal(s.state, 'T');
		assert_int_equal(s.ppid, 5);
		assert_int_equal(s.session, 34);
		assert_int_equal(s.started_ticks, 188813);
	}
}

static void what_is_no_stat(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"12",
		"12 (sh)",
		"12 (sh) ",
		"12 (sh) S",
		"12 (sh) SS 1",
		"12 (sh) S 1 2",
		")",
		"1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20\n21"};
	struct proc_stat s;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(proc_parse_stat(bad[i], &s), -EINVAL);
}

static void numbers_too_large(void **state)
{
	(void)state;
	struct proc_stat s;
	assert_int_equal(proc_parse_stat("1 (a) S 99999999999 1 99999999999 0 -1 0 0 0 0 0 "
					 "99999999999999999999 0 0 0 20 0 1 0 1 0 1\n",
					 &s),
			 0);
	assert_int_equal(s.ppid, 0);
	assert_int_equal(s.session, 0);
	assert_true(s.user_ticks == UINT64_MAX);
}

static void users(void **state)
{
	(void)state;
	assert_int_equal(proc_parse_user("Name:\tsh\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\n"), 1001);
	assert_int_equal(proc_parse_user("Name:\tUid:\\nUid: 7 7\nUid:\t0\t4294967295\t0\t0\n"), UINT32_MAX);
	assert_int_equal(proc_parse_user("Name:\tsh\n"), 0);
	assert_int_equal(proc_parse_user("Uid:"), 0);
}

static void this_process(void **state)
{
	(void)state;
	struct proc_walk w;
	struct proc_stat s;
	int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), seen = 0;
	assert_int_equal(proc_read_stat(proc, getpid(), &s), 0);
	assert_int_equal(s.ppid, getppid());
	assert_int_equal(s.session, getsid(0));
	assert_int_equal(s.state, 'R');
	assert_true(proc_read_stat(proc, 0x7fffffff, &s) < 0);
	assert_int_equal(proc_walk_begin(&w, proc), 0);
	for (pid_t pid; (pid = proc_walk_next(&w)) > 0;)
		seen += pid == getpid();
	assert_int_equal(proc_walk_next(&w), 0);
	proc_walk_end(&w);
	assert_int_equal(seen, 1);
	close(proc);
	assert_true(proc_walk_begin(&w, -1) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_fields),         cmocka_unit_test(the_kernels_own),
		cmocka_unit_test(names_that_pretend), cmocka_unit_test(what_is_no_stat),
		cmocka_unit_test(numbers_too_large),  cmocka_unit_test(users),
		cmocka_unit_test(this_process),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
