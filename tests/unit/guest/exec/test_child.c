/* PATH lookup as POSIX.1-2017, 8.3 has it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/child.h"

static void elements_in_turn(void **state)
{
	(void)state;
	static const char *const expected[] = {"/a/ls", "ls", "b/c/ls", "ls"};
	char path[CHILD_PATH_MAX];
	const char *search = "/a::b/c:";
	for (int i = 0; i < 4; i++) {
		assert_non_null(search);
		assert_int_equal(child_path_next(&search, "ls", path), 0);
		assert_string_equal(path, expected[i]);
	}
	assert_null(search);
}

static void an_empty_path_is_the_working_directory(void **state)
{
	(void)state;
	char path[CHILD_PATH_MAX];
	const char *search = "";
	assert_int_equal(child_path_next(&search, "ls", path), 0);
	assert_string_equal(path, "ls");
	assert_null(search);
}

static void too_long_is_skipped_not_cut(void **state)
{
	(void)state;
	char path[CHILD_PATH_MAX], list[3 * CHILD_PATH_MAX], name[CHILD_PATH_MAX + 100];
	for (size_t n = CHILD_PATH_MAX - 8; n < CHILD_PATH_MAX + 8; n++) {
		memset(list, 'd', n);
		strcpy(list + n, ":/b");
		const char *search = list;
		int fits = n + strlen("/ls") + 1 <= CHILD_PATH_MAX;
		assert_int_equal(child_path_next(&search, "ls", path), fits ? 0 : -ENAMETOOLONG);
		assert_int_equal(child_path_next(&search, "ls", path), 0);
		assert_string_equal(path, "/b/ls");
		assert_null(search);
	}
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	const char *search = "/b";
	assert_int_equal(child_path_next(&search, name, path), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elements_in_turn),
		cmocka_unit_test(an_empty_path_is_the_working_directory),
		cmocka_unit_test(too_long_is_skipped_not_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
