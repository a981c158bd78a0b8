/* A cgroup's control files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void processors(void **state)
{
	(void)state;
	struct usage u = {0};
	usage_parse_cpu(
		"usage_usec 300\nuser_usec 200\nsystem_usec 100\nnice_usec 0\nnr_periods 4\nnr_throttled 2\n"
		"throttled_usec 77\n",
		&u);
	assert_int_equal(u.user_us, 200);
	assert_int_equal(u.system_us, 100);
	assert_int_equal(u.throttled_us, 77);
	usage_parse_cpu("user_usec 1", &u); /* without the controller */
	assert_int_equal(u.user_us, 1);
	assert_int_equal(u.throttled_us, 0);
}

static void disks_are_added_up(void **state)
{
	(void)state;
	struct usage u = {0};
	usage_parse_io(
		"254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n254:16 rbytes=1 wbytes=2",
		&u);
	assert_int_equal(u.read_bytes, 4097);
	assert_int_equal(u.written_bytes, 8194);
	usage_parse_io("", &u);
	usage_parse_io("254:0 rbytes=99999999999999999999\n254:1 rbytes=1\n", &u);
	assert_true(u.read_bytes == UINT64_MAX);
}

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void what_is_there(void **state)
{
	(void)state;
	static const char *const names[] = {"memory.peak", "memory.events", "pids.current"};
	char folder[] = "/tmp/tenon-usage-XXXXXX";
	assert_non_null(mkdtemp(folder));
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct usage u, none = {0};
	memset(&u, 0xff, sizeof u);
	usage_read(dir, &u);
	assert_memory_equal(&u, &none, sizeof u);
	put(dir, names[0], "52428800\n");
	put(dir, names[1], "low 0\nhigh 0\nmax 5\noom 4\noom_kill 3\noom_group_kill 0\n");
	put(dir, names[2], "12\n");
	usage_read(dir, &u);
	assert_int_equal(u.memory_peak, 52428800);
	assert_int_equal(u.oom_kills, 3);
	assert_int_equal(u.user_us, 0);
	assert_int_equal(usage_read_number(dir, names[2]), 12);
	assert_int_equal(usage_read_number(dir, "memory.current"), 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unlinkat(dir, names[i], 0);
	close(dir);
	rmdir(folder);
}

static void what_was_used_since(void **state)
{
	(void)state;
	const struct usage earlier = {
		.user_us = 5, .system_us = 9, .written_bytes = 7, .memory_peak = 100, .oom_kills = 2};
	struct usage now = {
		.user_us = 8, .system_us = 4, .written_bytes = 7, .memory_peak = 100, .oom_kills = 3};
	struct usage own = usage_since(&earlier, &now);
	assert_int_equal(own.user_us, 3);
	assert_int_equal(own.system_us, 0); /* it never wraps */
	assert_int_equal(own.written_bytes, 0);
	assert_int_equal(own.oom_kills, 1);
	assert_int_equal(own.memory_peak, 0); /* that one's, or no more than his */
	now.memory_peak = 101;
	assert_int_equal(usage_since(&earlier, &now).memory_peak, 101);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processors),
		cmocka_unit_test(disks_are_added_up),
		cmocka_unit_test(what_is_there),
		cmocka_unit_test(what_was_used_since),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
