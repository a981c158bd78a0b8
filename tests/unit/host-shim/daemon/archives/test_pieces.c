/* The disk's pieces: what is found in a sparse file comes out the same, in whatever portions it passes, and
 * what no such file could have given is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/archives/pieces.h"

#define SIZE (64ull << 20)

static int memory(uint64_t size)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static size_t pack(int fd, uint8_t *out)
{
	struct err e;
	uint64_t at = 0, len;
	size_t n = 0;
	while (piece_find(fd, SIZE, &at, &len, &e) > 0) {
		piece_put_head(out + n, at, len);
		assert_int_equal(pread(fd, out + n + PIECE_HEAD, len, (off_t)at), len);
		n += PIECE_HEAD + len;
		at += len;
	}
	piece_put_head(out + n, SIZE, 0);
	return n + PIECE_HEAD;
}

static void round_trip(void **state)
{
	(void)state;
	static uint8_t data[5 << 20], back[sizeof data];
	int from = memory(SIZE);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + i / 4096);
	assert_int_equal(pwrite(from, data, sizeof data, 8 << 20), sizeof data);
	assert_int_equal(pwrite(from, data, 4096, SIZE - 4096), 4096);
	uint8_t *packed = malloc(sizeof data + (1 << 20));
	size_t n = pack(from, packed);
	assert_true(n > sizeof data + 4096 && n < sizeof data + (1 << 20));
	static const size_t portions[] = {1 << 20, 4099, 17};
	for (size_t k = 0; k < 3; k++) {
		struct pieces p = {.fd = memory(SIZE), .size = SIZE};
		struct err e;
		for (size_t at = 0; at < n; at += portions[k])
			assert_int_equal(
				pieces_take(&p, packed + at, n - at < portions[k] ? n - at : portions[k], &e),
				0);
		assert_true(p.over);
		assert_int_equal(pread(p.fd, back, sizeof back, 8 << 20), sizeof back);
		assert_memory_equal(back, data, sizeof data);
		assert_int_equal(pread(p.fd, back, 4096, SIZE - 4096), 4096);
		assert_memory_equal(back, data, 4096);
		struct stat a, b;
		fstat(from, &a);
		fstat(p.fd, &b);
		assert_int_equal(a.st_blocks, b.st_blocks);
		close(p.fd);
	}
	free(packed);
	close(from);
}

static void nothing_in_it(void **state)
{
	(void)state;
	uint8_t packed[64];
	struct err e;
	int from = memory(SIZE);
	assert_int_equal(pack(from, packed), PIECE_HEAD);
	struct pieces p = {.fd = from, .size = SIZE};
	assert_int_equal(pieces_take(&p, packed, PIECE_HEAD, &e), 0);
	assert_true(p.over);
	close(from);
}

static void refuses(void **state)
{
	(void)state;
	static const struct {
		uint64_t offset, len;
	} bad[] = {
		{0, PIECE_MAX + 1},
		{SIZE, 1},
		{SIZE - 1, 2},
		{UINT64_MAX, 1},
		{UINT64_MAX, UINT64_MAX},
		{0, 0},
		{SIZE - 1, 0},
		{SIZE + 1, 0},
		{4095, 1}, /* the one before ends at 4096 */
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pieces p = {.fd = memory(SIZE), .size = SIZE};
		struct err e;
		uint8_t bytes[PIECE_HEAD + 4096] = {0};
		piece_put_head(bytes, 0, 4096);
		assert_int_equal(pieces_take(&p, bytes, sizeof bytes, &e), 0);
		piece_put_head(bytes, bad[i].offset, bad[i].len);
		assert_int_equal(pieces_take(&p, bytes, PIECE_HEAD, &e), -EINVAL);
		close(p.fd);
	}
	struct pieces p = {.fd = memory(SIZE), .size = SIZE};
	struct err e;
	uint8_t end[PIECE_HEAD + 1] = {0};
	piece_put_head(end, SIZE, 0);
	assert_int_equal(pieces_take(&p, end, sizeof end, &e), -EINVAL);
	close(p.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(nothing_in_it),
		cmocka_unit_test(refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
