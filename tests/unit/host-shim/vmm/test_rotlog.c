#include "host-shim/vmm/rotlog.h"

#include "proto/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define LIMIT 1000

static char dir_name[] = "/tmp/rotlog-XXXXXX";
static int dir = -1;
static struct err e;

static int setup(void **state)
{
	(void)state;
	memcpy(dir_name + sizeof dir_name - 7, "XXXXXX", 6);
	if (!mkdtemp(dir_name))
		return -1;
	dir = open(dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0;
}

static int teardown(void **state)
{
	(void)state;
	unlinkat(dir, "log", 0);
	unlinkat(dir, "log.1", 0);
	close_fd(&dir);
	return rmdir(dir_name);
}

static off_t size_of(const char *name)
{
	struct stat st;
	return fstatat(dir, name, &st, 0) < 0 ? -1 : st.st_size;
}

static char byte_at(uint64_t i)
{
	return (char)('a' + i % 26);
}

static void keeps_the_tail(void **state)
{
	(void)state;
	struct rotlog log;
	assert_int_equal(rotlog_open(&log, dir, "log", LIMIT, &e), 0);
	uint64_t written = 0;
	for (size_t chunk = 1; written < 10 * LIMIT; chunk = (chunk * 7 + 1) % 997) {
		char buf[1000], tail[600];
		for (size_t i = 0; i < chunk; i++)
			buf[i] = byte_at(written + i);
		rotlog_write(&log, buf, chunk);
		written += chunk;
		assert_true(size_of("log") <= LIMIT && size_of("log.1") <= LIMIT);

		ssize_t want = written < sizeof tail ? (ssize_t)written : (ssize_t)sizeof tail;
		assert_int_equal(rotlog_tail(&log, tail, sizeof tail), want);
		for (ssize_t i = 0; i < want; i++)
			assert_int_equal(tail[i], byte_at(written - (uint64_t)(want - i)));
	}
	assert_int_equal(log.total, written);
	rotlog_close(&log);
}

static void one_write_beyond_two_files(void **state)
{
	(void)state;
	static char big[5 * LIMIT + 10], tail[sizeof big];
	struct rotlog log;
	memset(big, 'x', sizeof big);
	assert_int_equal(rotlog_open(&log, dir, "log", LIMIT, &e), 0);
	rotlog_write(&log, big, sizeof big);
	assert_int_equal(size_of("log"), 10);
	assert_int_equal(size_of("log.1"), LIMIT);
	assert_int_equal(rotlog_tail(&log, tail, sizeof tail), LIMIT + 10);
	rotlog_close(&log);
}

static void a_former_run_is_not_in_the_tail(void **state)
{
	(void)state;
	char tail[100];
	struct rotlog log;
	assert_int_equal(rotlog_open(&log, dir, "log", LIMIT, &e), 0);
	rotlog_write(&log, "former", 6);
	rotlog_close(&log);
	assert_int_equal(rotlog_open(&log, dir, "log", LIMIT, &e), 0);
	assert_int_equal(size_of("log.1"), 6);
	assert_int_equal(rotlog_tail(&log, tail, sizeof tail), 0);
	rotlog_write(&log, "new", 3);
	assert_int_equal(rotlog_tail(&log, tail, sizeof tail), 3);
	rotlog_close(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keeps_the_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(one_write_beyond_two_files, setup, teardown),
		cmocka_unit_test_setup_teardown(a_former_run_is_not_in_the_tail, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
