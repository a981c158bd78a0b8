/* Ring arithmetic against a plain array, wrap included. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec/ring.h"

static uint8_t mem[RING_SIZE];

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset * 31 + offset / 251);
}

static void assert_holds_in(uint8_t *memory, const struct ring *r)
{
	struct iovec iov[2];
	int pieces = ring_span(r, memory, r->base, r->end, iov);
	uint64_t offset = r->base;
	for (int i = 0; i < pieces; i++)
		for (size_t k = 0; k < iov[i].iov_len; k++)
			assert_int_equal(((uint8_t *)iov[i].iov_base)[k], byte_at(offset++));
	assert_true(offset == r->end);
}

static void assert_holds(const struct ring *r)
{
	assert_holds_in(mem, r);
}

static void spans_wrap(void **state)
{
	(void)state;
	struct iovec iov[2];
	const struct ring plain = {0};
	assert_int_equal(ring_span(&plain, mem, 5, 5, iov), 0);
	assert_int_equal(ring_span(&plain, mem, 0, RING_SIZE, iov), 1);
	assert_int_equal(iov[0].iov_len, RING_SIZE);
	assert_int_equal(ring_span(&plain, mem, RING_SIZE - 1, RING_SIZE, iov), 1);
	assert_int_equal(ring_span(&plain, mem, RING_SIZE - 1, RING_SIZE + 1, iov), 2);
	assert_ptr_equal(iov[0].iov_base, mem + RING_SIZE - 1);
	assert_ptr_equal(iov[1].iov_base, mem);
	uint64_t far = (UINT64_C(1) << 61) + 7;
	assert_int_equal(ring_span(&plain, mem, far, far + RING_SIZE, iov), 2);
	assert_int_equal(iov[0].iov_len, RING_SIZE - 7);
	assert_int_equal(iov[1].iov_len, 7);
}

static void keeps_what_was_put(void **state)
{
	(void)state;
	struct ring r = {.base = 3 * RING_SIZE - 100, .end = 3 * RING_SIZE - 100};
	srand(2);
	for (int round = 0; round < 3000; round++) {
		uint8_t bytes[5000];
		size_t n = (size_t)rand() % sizeof bytes;
		if (n > ring_free(&r))
			n = ring_free(&r);
		for (size_t i = 0; i < n; i++)
			bytes[i] = byte_at(r.end + i);
		ring_put(&r, mem, bytes, n);
		if (round % 100 == 0)
			assert_holds(&r);
		ring_release(&r, r.base + (uint64_t)rand() % (ring_used(&r) + 1));
		assert_true(ring_used(&r) + ring_free(&r) == RING_SIZE);
	}
}

static void goes_on_in_wider_memory(void **state)
{
	(void)state;
	static uint8_t wide[RING_WIDE], bytes[RING_WIDE / 2];
	struct ring r = {.base = 5 * RING_SIZE - 100, .end = 5 * RING_SIZE - 100};
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = byte_at(r.end + i);
	ring_put(&r, mem, bytes, RING_SIZE);
	ring_move(&r, mem, wide, 2);
	assert_int_equal(ring_free(&r), sizeof bytes - RING_SIZE);
	ring_put(&r, wide, bytes + RING_SIZE, sizeof bytes - RING_SIZE);
	assert_int_equal(ring_free(&r), 0);
	assert_holds_in(wide, &r);
	ring_release(&r, r.end - 50);
	ring_move(&r, wide, mem, 0);
	assert_int_equal(ring_free(&r), RING_SIZE - 50);
	assert_holds(&r);
}

static void spreads_over_all_of_wide_memory(void **state)
{
	(void)state;
	static uint8_t wide[RING_WIDE], bytes[RING_WIDE];
	const size_t half = RING_WIDE / 2;
	static const uint64_t ends[] = {
		0, 1, RING_WIDE / 2 - 1, RING_WIDE / 2, RING_WIDE / 2 + 1, RING_WIDE - 1};
	for (int i = 0; i < 100; i++) {
		uint64_t base = 7 * half + (i < 6 ? ends[i] : (uint64_t)rand() % RING_WIDE);
		size_t used = i % 6 ? ends[i % 6] % (half + 1) : half;
		struct ring r = {.base = base, .end = base, .wide = 1};
		for (size_t k = 0; k < sizeof bytes; k++)
			bytes[k] = byte_at(base + k);
		ring_put(&r, wide, bytes, used);
		ring_spread(&r, wide);
		assert_int_equal(ring_free(&r), RING_WIDE - used);
		assert_holds_in(wide, &r);
		ring_put(&r, wide, bytes + used, RING_WIDE - used);
		assert_holds_in(wide, &r);
	}
}

static void moves_between_pipes(void **state)
{
	(void)state;
	int in[2], out[2];
	assert_int_equal(pipe2(in, O_NONBLOCK), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	struct ring r = {.base = 60000, .end = 60000};
	assert_int_equal(ring_read(&r, mem, in[0]), -EAGAIN);
	uint64_t sent = r.end, got = r.base;
	for (int round = 0; round < 200; round++) {
		uint8_t bytes[3001];
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = byte_at(sent + i);
		assert_int_equal(write(in[1], bytes, sizeof bytes), sizeof bytes);
		sent += sizeof bytes;
		assert_int_equal(ring_read(&r, mem, in[0]), sizeof bytes);
		assert_int_equal(ring_write(&r, mem, out[1]), sizeof bytes);
		assert_int_equal(read(out[0], bytes, sizeof bytes), sizeof bytes);
		for (size_t i = 0; i < sizeof bytes; i++)
			assert_int_equal(bytes[i], byte_at(got++));
	}
	close(in[1]);
	assert_int_equal(ring_read(&r, mem, in[0]), 0);
	r.end = r.base + RING_SIZE;
	assert_int_equal(ring_read(&r, mem, in[0]), -ENOBUFS);
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans_wrap),
		cmocka_unit_test(keeps_what_was_put),
		cmocka_unit_test(goes_on_in_wider_memory),
		cmocka_unit_test(spreads_over_all_of_wide_memory),
		cmocka_unit_test(moves_between_pipes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
