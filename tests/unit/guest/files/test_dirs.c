/* The way down into what an archive is unpacked to. */
#include "tests/unit/guest/files/scratch.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "guest/files/dirs.h"

static struct dirs dirs;

static void begin(void)
{
	struct owner us = {geteuid(), getegid()};
	dirs_init(&dirs, open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC), &us);
}

static int enter(const char *path)
{
	return dirs_enter(&dirs, path, strlen(path));
}

static int make(const char *path, mode_t mode, time_t mtime)
{
	bool fresh;
	int fd = dirs_make(&dirs, path, strlen(path), &fresh);
	struct attributes a = {.mode = mode, .owner = {geteuid(), getegid()}, .mtime = {.tv_sec = mtime}};
	if (fd >= 0 && fresh)
		dirs_finish_with(&dirs, &a);
	return fd;
}

static void check(const char *path, mode_t mode, time_t mtime)
{
	struct stat st;
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_mtim.tv_sec, mtime);
}

static void times_and_modes_come_last(void **state)
{
	(void)state;
	const char *stage;
	begin();
	assert_true(make("a", 0555, 1000) >= 0);
	assert_true(make("a/b", 0500, 2000) >= 0);
	scratch_write("a/b/f", "");
	assert_true(make("a/bc", 0711, 3000) >= 0); /* not below a/b, though it begins like it */
	check("a/b", 0500, 2000);
	assert_int_equal(dirs.depth, 2);
	assert_true(enter("a/implied/x") >= 0);
	assert_int_equal(dirs.depth, 3);
	assert_int_equal(dirs_leave(&dirs, &stage), 0);
	check("a", 0555, 1000);
	check("a/bc", 0711, 3000);
}

static void no_link_leads_out(void **state)
{
	(void)state;
	const char *stage;
	assert_int_equal(mkdir("real", 0755) | symlink("real", "in") | symlink("..", "up") |
				 symlink("/tmp", "absolute") | symlink("nowhere", "dangling"),
			 0);
	begin();
	assert_true(enter("in") >= 0);
	assert_true(enter("in/new") >= 0);
	assert_int_equal(access("real/new", F_OK), 0);
	assert_int_equal(enter("up"), -EXDEV);
	assert_int_equal(enter("absolute/x"), -EXDEV);
	assert_int_equal(enter("dangling/x"), -EEXIST);
	assert_int_equal(make("in", 0755, 0), -ENOTDIR); /* a directory is wanted, and no link to one */
	scratch_write("f", "");
	assert_int_equal(make("f", 0755, 0), -ENOTDIR);
	assert_int_equal(enter("f/x"), -ENOTDIR);
	assert_int_equal(dirs_leave(&dirs, &stage), 0);
}

static void it_goes_only_so_deep(void **state)
{
	(void)state;
	const char *stage;
	char path[2 * DIRS_DEPTH_MAX + 3];
	for (size_t i = 0; i < sizeof path; i++)
		path[i] = i % 2 ? '/' : 'd';
	begin();
	assert_true(dirs_enter(&dirs, path, 2 * 500 - 1) >= 0);
	assert_int_equal(dirs.depth, 500);
	assert_int_equal(dirs_leave(&dirs, &stage), 0);
	assert_int_equal(dirs.levels[0].fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(times_and_modes_come_last, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(no_link_leads_out, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(it_goes_only_so_deep, scratch_make, scratch_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
