#include "host-shim/vmm/memtable.h"

#include "proto/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096ull

static int sealed(size_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

static int set_one(struct memtable *mt, struct memtable_region r, int fd)
{
	struct err e = {0};
	return memtable_set(mt, &r, &fd, 1, &e);
}

static void maps_and_replaces(void **state)
{
	(void)state;
	_cleanup_close_ int fd = sealed(8 * PAGE);
	struct memtable mt;
	memtable_init(&mt);
	assert_int_equal(
		set_one(&mt, (struct memtable_region){0x100000, 4 * PAGE, 0x7f0000000000, 2 * PAGE}, fd), 0);

	char *p = memtable_from_user(&mt, 0x7f0000000000 + PAGE, 5);
	assert_non_null(p);
	memcpy(p, "hello", 5);
	char back[5];
	assert_int_equal(pread(fd, back, 5, 3 * PAGE), 5);
	assert_memory_equal(back, "hello", 5);

	/* A bad table leaves the old one. */
	assert_true(set_one(&mt, (struct memtable_region){0, 16 * PAGE, 0, 0}, fd) < 0);
	assert_ptr_equal(memtable_from_user(&mt, 0x7f0000000000 + PAGE, 5), p);
	memtable_finish(&mt);
}

static void refuses_bad_regions(void **state)
{
	(void)state;
	_cleanup_close_ int fd = sealed(8 * PAGE);
	struct memtable mt;
	memtable_init(&mt);
	const struct memtable_region bad[] = {
		{0, 0, 0, 0},                        /* empty */
		{0, PAGE + 1, 0, 0},                 /* not whole pages */
		{0, PAGE, 0, 1},                     /* offset neither */
		{0, 9 * PAGE, 0, 0},                 /* beyond the file */
		{0, 4 * PAGE, 0, 5 * PAGE},          /* the same, by its offset */
		{UINT64_MAX - PAGE + 2, PAGE, 0, 0}, /* wraps */
		{0, PAGE, UINT64_MAX - PAGE + 2, 0}, /* so does this */
		{0, PAGE, 0, UINT64_MAX - PAGE + 1}, /* and this */
		{0, UINT64_MAX - PAGE + 1, 0, 0},    /* sizes near the end of the world */
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(set_one(&mt, bad[i], fd), -EINVAL);

	struct err e;
	struct memtable_region two[2] = {{0, 2 * PAGE, 0, 0}, {PAGE, 2 * PAGE, 0x10000, 0}};
	int fds[2] = {fd, fd};
	assert_int_equal(memtable_set(&mt, two, fds, 2, &e), -EINVAL);
	assert_int_equal(memtable_set(&mt, two, fds, 0, &e), -EINVAL);
	assert_int_equal(memtable_set(&mt, two, fds, 9, &e), -EINVAL);
	assert_int_equal(mt.n, 0);
}

static void refuses_memory_that_may_shrink(void **state)
{
	(void)state;
	_cleanup_close_ int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	struct memtable mt;
	memtable_init(&mt);
	assert_int_equal(set_one(&mt, (struct memtable_region){0, PAGE, 0, 0}, fd), -EINVAL);
}

static void translates(void **state)
{
	(void)state;
	_cleanup_close_ int fd = sealed(8 * PAGE);
	const size_t low_size = 2 * PAGE, high_size = PAGE;
	const uint64_t user = 0x7f0000000000;
	struct memtable_region regions[] = {{0, low_size, user, 0},
					    {low_size, high_size, 2 * user, 4 * PAGE}};
	struct memtable mt;
	struct iovec iov[4];
	memtable_init(&mt);
	assert_int_equal(memtable_set(&mt, regions, (int[]){fd, fd}, 2, &(struct err){0}), 0);
	uint8_t *low = mt.region[0].host, *high = mt.region[1].host;

	assert_int_equal(memtable_translate(&mt, 10, 20, iov, 4), 1);
	assert_ptr_equal(iov[0].iov_base, low + 10);
	assert_int_equal(iov[0].iov_len, 20);
	/* Over the seam between two regions. */
	assert_int_equal(memtable_translate(&mt, low_size - 1, 2, iov, 4), 2);
	assert_ptr_equal(iov[0].iov_base, low + low_size - 1);
	assert_ptr_equal(iov[1].iov_base, high);
	assert_int_equal(memtable_translate(&mt, low_size - 1, 2, iov, 1), -E2BIG);

	assert_int_equal(memtable_translate(&mt, 10, 0, iov, 4), 0);
	assert_int_equal(memtable_translate(&mt, low_size, high_size + 1, iov, 4), -EFAULT);
	assert_int_equal(memtable_translate(&mt, UINT64_MAX, 2, iov, 4), -EFAULT);
	assert_int_equal(memtable_translate(&mt, 0, UINT32_MAX, iov, 4), -EFAULT);

	assert_ptr_equal(memtable_from_user(&mt, user, low_size), low);
	assert_null(memtable_from_user(&mt, user + 1, UINT64_MAX));
	assert_null(memtable_from_user(&mt, UINT64_MAX, 1));
	memtable_finish(&mt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_and_replaces),
		cmocka_unit_test(refuses_bad_regions),
		cmocka_unit_test(refuses_memory_that_may_shrink),
		cmocka_unit_test(translates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
