/* stdin of one execution: what a host may send, and what becomes of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec/input.h"

static uint8_t mem[RING_SIZE];
static const uint8_t bytes[2 * RING_SIZE];

struct fixture {
	struct exec_input in;
	int reader;
};

static int set_up(void **state)
{
	static struct fixture f;
	int fds[2];
	if (pipe2(fds, O_NONBLOCK) < 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	exec_input_init(&f.in, fds[1]);
	f.reader = fds[0];
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	close(f->in.fd);
	close(f->reader);
	return 0;
}

static void put_write_end(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(exec_input_put(&f->in, mem, 0, (const uint8_t *)"hello", 5), 0);
	assert_true(exec_input_credit_due(&f->in));
	assert_false(exec_input_write(&f->in, mem, false));
	char got[8];
	assert_int_equal(read(f->reader, got, sizeof got), 5);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(exec_input_end(&f->in, 4), -EPROTO);
	assert_int_equal(exec_input_end(&f->in, 5), 0);
	assert_int_equal(exec_input_end(&f->in, 5), 0); /* a repeat */
	assert_true(exec_input_write(&f->in, mem, false));
	assert_int_equal(exec_input_put(&f->in, mem, 5, bytes, 1), -EPROTO);
	assert_int_equal(exec_input_put(&f->in, mem, 0, bytes, 5), 0); /* sent again after a reconnect */
}

static void overlap_is_trimmed_and_holes_are_not_taken(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(exec_input_put(&f->in, mem, 0, (const uint8_t *)"abc", 3), 0);
	assert_int_equal(exec_input_put(&f->in, mem, 1, (const uint8_t *)"bcde", 4), 0);
	assert_int_equal(f->in.ring.end, 5);
	assert_memory_equal(mem, "abcde", 5);
	assert_int_equal(exec_input_put(&f->in, mem, 6, bytes, 1), -EPROTO);
}

static void credit_bounds_it(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(exec_input_put(&f->in, mem, 0, bytes, RING_SIZE), 0);
	assert_int_equal(exec_input_put(&f->in, mem, RING_SIZE, bytes, 1), -EPROTO);
	uint64_t acked, limit;
	exec_input_credit(&f->in, &acked, &limit);
	assert_int_equal(acked, RING_SIZE);
	assert_int_equal(limit, RING_SIZE);
	assert_false(exec_input_credit_due(&f->in));
	exec_input_write(&f->in, mem, false); /* a pipe holds as much */
	assert_true(exec_input_credit_due(&f->in));
	exec_input_credit(&f->in, &acked, &limit);
	assert_int_equal(limit, 2 * RING_SIZE);
	assert_int_equal(exec_input_put(&f->in, mem, RING_SIZE, bytes, RING_SIZE), 0);
}

static void nobody_reads_any_more(void **state)
{
	struct fixture *f = *state;
	close(f->reader);
	f->reader = -1;
	assert_int_equal(exec_input_put(&f->in, mem, 0, bytes, 10), 0);
	assert_true(exec_input_write(&f->in, mem, false));
	assert_true(f->in.closed && !f->in.closed_told);
	assert_int_equal(ring_used(&f->in.ring), 0);
	assert_int_equal(exec_input_put(&f->in, mem, 777, bytes, 10), 0);
	assert_int_equal(exec_input_end(&f->in, 777), 0);
	assert_int_equal(f->in.ring.end, 10);
	assert_false(exec_input_credit_due(&f->in));
}

static void without_stdin_it_is_closed(void **state)
{
	(void)state;
	struct exec_input in;
	exec_input_init(&in, -1);
	assert_true(in.closed);
	assert_int_equal(in.told_limit, 0);
	assert_int_equal(exec_input_put(&in, mem, 0, bytes, 10), 0);
	assert_int_equal(in.ring.end, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(put_write_end),
		TEST(overlap_is_trimmed_and_holes_are_not_taken),
		TEST(credit_bounds_it),
		TEST(nobody_reads_any_more),
		cmocka_unit_test(without_stdin_it_is_closed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
