/* Numbers, words and lines of the kernel's texts, and of texts that are none. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/scan.h"

static uint64_t number(const char *text)
{
	return scan_number(&text);
}

static uint64_t thousandths(const char *text)
{
	return scan_thousandths(&text);
}

static void numbers(void **state)
{
	(void)state;
	assert_int_equal(number(" \t42 43"), 42);
	assert_int_equal(number(""), 0);
	assert_int_equal(number("x1"), 0);
	assert_int_equal(number("-1"), 0);
	assert_int_equal(number("\n7"), 0); /* another line's */
	assert_true(number("18446744073709551615") == UINT64_MAX);
	assert_true(number("18446744073709551616") == UINT64_MAX);
	assert_true(number("99999999999999999999999999") == UINT64_MAX);
	assert_true(scan_times(UINT64_MAX, 2) == UINT64_MAX && scan_sum(UINT64_MAX, 1) == UINT64_MAX);
	assert_int_equal(scan_u32(UINT64_MAX), UINT32_MAX);
}

static void fractions(void **state)
{
	(void)state;
	assert_int_equal(thousandths("11.59 "), 11590);
	assert_int_equal(thousandths("0.5"), 500);
	assert_int_equal(thousandths("3"), 3000);
	assert_int_equal(thousandths("1.23456789"), 1234);
	assert_int_equal(thousandths("2."), 2000);
	assert_true(thousandths("99999999999999999999.9") == UINT64_MAX);
}

static void words_and_lines(void **state)
{
	(void)state;
	const char *p = "  one two\nthree", *word;
	assert_int_equal(scan_word(&p, &word), 3);
	assert_memory_equal(word, "one", 3);
	scan_skip(&p, 1);
	assert_int_equal(scan_word(&p, &word), 0); /* never on to the next line */
	assert_true(scan_next_line(&p));
	assert_int_equal(scan_word(&p, &word), 5);
	assert_false(scan_next_line(&p));
	assert_false(scan_next_line(&p));
	scan_skip(&p, 1000);
	assert_int_equal(*p, '\0');
}

static void keys(void **state)
{
	(void)state;
	const char *text = "oom 1\noom_kill 2\n not_oom_kill 3";
	assert_int_equal(scan_value(text, "oom_kill ", 9), 2);
	assert_int_equal(scan_value(text, "kill ", 9), 9);
	assert_int_equal(scan_value("", "oom ", 9), 9);
	assert_int_equal(scan_value("oom ", "oom ", 9), 0);
	const char *line = "254:0 rbytes=1 wbytes=22\n254:1 rbytes=3 dbytes=4";
	const char *v = scan_pair(line, "wbytes=");
	assert_int_equal(scan_number(&v), 22);
	assert_null(scan_pair(line, "dbytes="));
	assert_null(scan_pair("", "dbytes="));
}

static void files(void **state)
{
	(void)state;
	char name[] = "/tmp/tenon-scan-XXXXXX", text[8];
	int fd = mkstemp(name);
	assert_int_equal(write(fd, "123456789", 9), 9);
	close(fd);
	assert_int_equal(scan_file(AT_FDCWD, name, text, sizeof text), 7);
	assert_string_equal(text, "1234567");
	unlink(name);
	assert_true(scan_file(AT_FDCWD, name, text, sizeof text) < 0);
	assert_true(scan_file(AT_FDCWD, "/", text, sizeof text) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers), cmocka_unit_test(fractions), cmocka_unit_test(words_and_lines),
		cmocka_unit_test(keys),    cmocka_unit_test(files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
