/* What a request's path comes to: a descriptor, or a directory and a name. */
#include "tests/unit/guest/files/scratch.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "guest/files/beside.h"
#include "guest/files/parents.h"
#include "proto/cleanup.h"

static uint8_t mem[65536];
static struct bump bump;

static ProtobufCBinaryData bytes(const char *s)
{
	return (ProtobufCBinaryData){strlen(s), (uint8_t *)s};
}

static int open_where(struct where *w, const char *path, bool beneath, struct fault *f)
{
	Tenon__Where at = TENON__WHERE__INIT;
	at.path = bytes(path);
	if (beneath)
		at.beneath = bytes(scratch);
	bump_init(&bump, mem, sizeof mem);
	return where_open(w, &at, "at", &bump, f);
}

static int place(const char *path, struct place *p)
{
	_cleanup_where_ struct where w = WHERE_NONE;
	struct fault f;
	int r = open_where(&w, path, true, &f);
	return r < 0 ? r : where_place(&w, p, &f);
}

static void the_last_part_is_a_name_and_the_rest_a_directory(void **state)
{
	(void)state;
	static const struct {
		const char *path, *name;
		int r;
	} cases[] = {
		{"f", "f", 0},           {"d/f", "f", 0},           {"d//f", "f", 0},
		{"d/", "d", 0},          {"d///", "d", 0},          {"./d/../f", "f", 0},
		{"f/", NULL, -ENOTDIR},  {"new/", "new", 0},        {"f/x", NULL, -ENOTDIR},
		{".", NULL, -EINVAL},    {"..", NULL, -EINVAL},     {"d/..", NULL, -EINVAL},
		{"d/.", NULL, -EINVAL},  {"../x", NULL, -EXDEV},    {"d/../../x", NULL, -EXDEV},
		{"out/x", NULL, -EXDEV}, {"none/x", NULL, -ENOENT}, {"l/", NULL, -ENOTDIR},
	};
	mkdir("d", 0755);
	scratch_write("f", "");
	assert_int_equal(symlink("..", "out"), 0);
	assert_int_equal(symlink("d", "l"), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		_cleanup_place_ struct place p = PLACE_NONE;
		assert_int_equal(place(cases[i].path, &p), cases[i].r);
		if (cases[i].name)
			assert_string_equal(p.name, cases[i].name);
	}
}

static void faults_name_the_file_as_the_box_does(void **state)
{
	(void)state;
	struct fault f;
	char want[PATH_MAX];
	_cleanup_where_ struct where w = WHERE_NONE, root = WHERE_NONE;
	assert_int_equal(open_where(&w, "no/thing", true, &f), 0);
	assert_int_equal(where_resolve(&w, O_PATH, &f), -ENOENT);
	snprintf(want, sizeof want, "%s/no/thing", scratch);
	assert_string_equal(f.path, want);
	assert_int_equal(f.err.errnum, ENOENT);
	assert_int_equal(where_fail(&w, "below", "read", EIO, &f), -EIO);
	strcat(want, "/below");
	assert_string_equal(f.path, want);
	assert_int_equal(open_where(&root, "/", false, &f), 0);
	where_fail(&root, "a", "read", EIO, &f);
	assert_string_equal(f.path, "/a");
}

static void parents_are_made_as_far_as_they_are_missing(void **state)
{
	(void)state;
	struct owner us = {geteuid(), getegid()};
	struct fault f;
	struct stat st;
	bool made;
	umask(077);
	_cleanup_where_ struct where w = WHERE_NONE, out = WHERE_NONE;
	mkdir("a", 0700);
	assert_int_equal(open_where(&w, "a//b/./c/", true, &f), 0);
	assert_int_equal(parents_make(&w, true, &us, &made, &f), 0);
	assert_true(made);
	assert_int_equal(stat("a/b/c", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(parents_make(&w, true, &us, &made, &f), 0);
	assert_false(made);
	assert_int_equal(open_where(&out, "a/../../x/y", true, &f), 0);
	assert_int_equal(parents_make(&out, false, &us, NULL, &f), -EXDEV);
}

static void what_is_made_beside_replaces_whole_or_not_at_all(void **state)
{
	(void)state;
	struct stat a, b;
	struct beside made = BESIDE_NONE;
	_cleanup_close_ int dir = open(".", O_PATH | O_DIRECTORY);
	scratch_write("f", "old");
	_cleanup_close_ int fd = beside_file(&made, dir);
	assert_true(fd >= 0);
	assert_int_equal(beside_install(&made, dir, "f", true), -EEXIST);
	assert_int_equal(beside_install(&made, dir, "f", false), 0);
	assert_int_equal(fstat(fd, &a) | stat("f", &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);

	/* Both names are one file already: rename(2) does nothing then. */
	assert_int_equal(beside_link(&made, dir, dir, "f"), 0);
	assert_int_equal(beside_install(&made, dir, "f", false), 0);
	assert_int_equal(stat("f", &b), 0);
	assert_int_equal(b.st_nlink, 1);

	mkdir("d", 0700);
	assert_int_equal(beside_symlink(&made, dir, "x"), 0);
	assert_int_equal(beside_install(&made, dir, "d", false), -EISDIR);
	beside_discard(&made);
	beside_discard(&made);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_last_part_is_a_name_and_the_rest_a_directory,
						scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(faults_name_the_file_as_the_box_does, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(parents_are_made_as_far_as_they_are_missing, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(what_is_made_beside_replaces_whole_or_not_at_all,
						scratch_make, scratch_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
