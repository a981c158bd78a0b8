/* What is remembered while a tree is packed or watched: bounded, and found again. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/files/links.h"
#include "guest/files/watched.h"

static void links_are_found_by_device_and_inode(void **state)
{
	(void)state;
	struct links l;
	struct stat a = {.st_dev = 1, .st_ino = 7}, b = {.st_dev = 2, .st_ino = 7};
	assert_int_equal(links_init(&l), 0);
	assert_null(links_find(&l, &a, "a"));
	assert_null(links_find(&l, &b, "b"));
	assert_string_equal(links_find(&l, &a, "x"), "a");
	assert_string_equal(links_find(&l, &b, "x"), "b");
	links_finish(&l);
	links_finish(&l);
}

static void a_full_table_of_links_forgets_only_the_newest(void **state)
{
	(void)state;
	struct links l;
	struct stat st = {.st_dev = 1};
	char path[16];
	assert_int_equal(links_init(&l), 0);
	for (unsigned i = 0; i < 2 * LINKS_SLOTS; i++) {
		st.st_ino = i;
		snprintf(path, sizeof path, "%u", i);
		assert_null(links_find(&l, &st, path));
	}
	for (unsigned i = 0; i < l.n; i++) {
		st.st_ino = i;
		snprintf(path, sizeof path, "%u", i);
		assert_string_equal(links_find(&l, &st, "x"), path);
	}
	assert_int_equal(l.n, LINKS_SLOTS / 4 * 3);
	st.st_ino = 2 * LINKS_SLOTS - 1;
	assert_null(links_find(&l, &st, "still not"));
	links_finish(&l);
}

static struct watched w;

static void watches_have_paths_that_move(void **state)
{
	(void)state;
	assert_int_equal(watched_put(&w, 5, "a/b") | watched_put(&w, 3, "a") | watched_put(&w, 9, "ab") |
				 watched_put(&w, 7, ""),
			 0);
	assert_int_equal(watched_rename(&w, "a", "x/y"), 0);
	assert_string_equal(watched_path(&w, 3), "x/y");
	assert_string_equal(watched_path(&w, 5), "x/y/b");
	assert_string_equal(watched_path(&w, 9), "ab");
	assert_string_equal(watched_path(&w, 7), "");
	assert_int_equal(watched_put(&w, 5, "again"), 0);
	assert_string_equal(watched_path(&w, 5), "again");
	watched_drop(&w, 5);
	watched_drop(&w, 6);
	assert_null(watched_path(&w, 5));
	assert_int_equal(w.n, 3);
	watched_clear(&w);
}

static void watches_are_bounded(void **state)
{
	(void)state;
	for (int i = 0; i < WATCHED_MAX; i++)
		assert_int_equal(watched_put(&w, i + 1, "d"), 0);
	assert_int_equal(watched_put(&w, WATCHED_MAX + 1, "d"), -ENOSPC);
	watched_drop(&w, 1);
	assert_int_equal(watched_put(&w, WATCHED_MAX + 1, "d"), 0);
	watched_clear(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_are_found_by_device_and_inode),
		cmocka_unit_test(a_full_table_of_links_forgets_only_the_newest),
		cmocka_unit_test(watches_have_paths_that_move),
		cmocka_unit_test(watches_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
