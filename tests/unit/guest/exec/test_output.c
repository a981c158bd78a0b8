/* One output channel, between a pipe and a host that is played here. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec/output.h"
#include "proto/frame.h"

static uint8_t mem[RING_SIZE];

struct fixture {
	struct exec_output o;
	int writer;
};

static int set_up(void **state)
{
	static struct fixture f;
	int fds[2];
	if (pipe2(fds, O_NONBLOCK) < 0)
		return -1;
	f = (struct fixture){.o = {.fd = fds[0], .limit = 1 << 20}, .writer = fds[1]};
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	close(f->o.fd);
	close(f->writer);
	return 0;
}

static void feed(struct fixture *f, size_t n)
{
	static const uint8_t bytes[RING_SIZE];
	assert_int_equal(write(f->writer, bytes, n), n);
	f->o.readable = true;
}

static void assert_next(struct exec_output *o, enum exec_chunk_kind kind, uint64_t from, uint64_t to)
{
	assert_int_equal(exec_output_ready(o), kind != CHUNK_NONE);
	struct exec_chunk c = exec_output_next(o);
	assert_int_equal(c.kind, kind);
	if (kind != CHUNK_NONE) {
		assert_int_equal(c.from, from);
		assert_int_equal(c.to, to);
	}
}

static void sends_what_it_reads_then_eof(void **state)
{
	struct fixture *f = *state;
	assert_false(exec_output_read(&f->o, mem, 0)); /* not said to be readable */
	feed(f, 100);
	assert_true(exec_output_read(&f->o, mem, 0));
	assert_false(f->o.readable); /* it came up short: the next edge will tell */
	assert_next(&f->o, CHUNK_DATA, 0, 100);
	assert_next(&f->o, CHUNK_NONE, 0, 0);
	close(f->writer);
	f->writer = -1;
	f->o.readable = f->o.hung_up = true;
	assert_true(exec_output_read(&f->o, mem, 0));
	assert_true(f->o.eof);
	assert_next(&f->o, CHUNK_EOF, 100, 100);
	assert_next(&f->o, CHUNK_NONE, 0, 0);
	assert_false(exec_output_drained(&f->o, true));
	assert_int_equal(exec_output_credit(&f->o, 100, 200), 0);
	assert_true(exec_output_drained(&f->o, true));
}

/* Bytes that only the transport holds up call for none: it would interrupt what sends them. */
static void credit_is_asked_for_what_was_sent(void **state)
{
	struct fixture *f = *state;
	feed(f, 65536);
	assert_true(exec_output_read(&f->o, mem, 0));
	assert_false(exec_output_asks_credit(&f->o));
	f->o.limit = RING_SIZE / 2 - 1;
	assert_next(&f->o, CHUNK_DATA, 0, RING_SIZE / 2 - 1);
	assert_false(exec_output_asks_credit(&f->o));
	f->o.limit = RING_SIZE / 2;
	assert_next(&f->o, CHUNK_DATA, RING_SIZE / 2 - 1, RING_SIZE / 2);
	assert_true(exec_output_asks_credit(&f->o));
	assert_false(exec_output_asks_credit(&f->o)); /* once is enough */
	assert_int_equal(exec_output_credit(&f->o, 0, RING_SIZE / 2), 0);
	assert_true(exec_output_asks_credit(&f->o)); /* what came was not enough */
	assert_int_equal(exec_output_credit(&f->o, 1, RING_SIZE / 2), 0);
	assert_false(exec_output_asks_credit(&f->o));
	/* The oldest bytes went: nothing below the ring is waited for. */
	exec_output_attach(&f->o, RING_SIZE / 4, RING_SIZE);
	ring_release(&f->o.ring, RING_SIZE);
	assert_false(exec_output_asks_credit(&f->o));
}

/* The host is slow to acknowledge: not the transport, not the program. */
static void starves_on_late_credit(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 3; i++) {
		uint64_t base = f->o.ring.base;
		feed(f, ring_free(&f->o.ring));
		assert_true(exec_output_read(&f->o, mem, 0));
		feed(f, 1); /* and there is more */
		assert_next(&f->o, CHUNK_DATA, f->o.sent, f->o.sent + FRAME_DATA_FULL);
		if (i < 2)
			assert_next(&f->o, CHUNK_DATA, f->o.sent, f->o.ring.end);
		assert_int_equal(exec_output_credit(&f->o, base + RING_SIZE, 1 << 20), 0);
		assert_int_equal(f->o.starved, (i + 1) % 3); /* the third time not all was sent */
		char one;
		assert_int_equal(read(f->o.fd, &one, 1), 1);
	}
}

static void a_full_ring_blocks(void **state)
{
	struct fixture *f = *state;
	feed(f, 65536);
	assert_true(exec_output_read(&f->o, mem, 0));
	feed(f, 10);
	assert_false(exec_output_read(&f->o, mem, 0));
	assert_true(f->o.readable); /* an acknowledgement will read on */
	assert_int_equal(exec_output_credit(&f->o, 0, 1 << 20), 0);
	assert_next(&f->o, CHUNK_DATA, 0, FRAME_DATA_FULL);
	assert_next(&f->o, CHUNK_DATA, FRAME_DATA_FULL, 65536);
	assert_int_equal(exec_output_credit(&f->o, 65536, 1 << 20), 0);
	assert_true(exec_output_read(&f->o, mem, 0));
	assert_next(&f->o, CHUNK_DATA, 65536, 65546);
}

static void drop_oldest_tells_one_gap(void **state)
{
	struct fixture *f = *state;
	f->o.limit = 0;
	for (int i = 0; i < 20; i++) {
		feed(f, 10000);
		assert_true(exec_output_read(&f->o, mem, OUTPUT_DROP_OLDEST));
		assert_next(&f->o, CHUNK_NONE, 0, 0);
	}
	assert_int_equal(f->o.ring.end, 200000);
	uint64_t base = f->o.ring.base;
	assert_true(base > 200000 - 65536 && base < 200000);
	assert_int_equal(exec_output_credit(&f->o, 0, 1 << 20), 0);
	assert_next(&f->o, CHUNK_GAP, 0, base);
	assert_next(&f->o, CHUNK_DATA, base, 200000);
}

static void a_gap_may_pass_the_limit(void **state)
{
	struct fixture *f = *state;
	f->o.ring = (struct ring){.base = 5000, .end = 6000};
	f->o.limit = 10;
	assert_next(&f->o, CHUNK_GAP, 0, 5000);
	assert_next(&f->o, CHUNK_NONE, 0, 0);
	assert_int_equal(exec_output_credit(&f->o, 0, 5001), 0);
	assert_next(&f->o, CHUNK_DATA, 5000, 5001);
}

static void credit_is_honoured(void **state)
{
	struct fixture *f = *state;
	f->o.limit = 0;
	feed(f, 1000);
	exec_output_read(&f->o, mem, 0);
	assert_next(&f->o, CHUNK_NONE, 0, 0);
	assert_int_equal(exec_output_credit(&f->o, 0, 7), 0);
	assert_next(&f->o, CHUNK_DATA, 0, 7);
	assert_int_equal(exec_output_credit(&f->o, 0, 5), 0); /* stale */
	assert_next(&f->o, CHUNK_NONE, 0, 0);
	assert_int_equal(exec_output_credit(&f->o, 1001, 2000), -EPROTO);
	assert_int_equal(exec_output_credit(&f->o, 900, 1000), 0); /* had from a stream before */
	assert_next(&f->o, CHUNK_DATA, 900, 1000);
}

static void attach_resumes_exactly(void **state)
{
	struct fixture *f = *state;
	feed(f, 1000);
	exec_output_read(&f->o, mem, 0);
	assert_next(&f->o, CHUNK_DATA, 0, 1000);
	exec_output_attach(&f->o, 400, 1 << 20);
	assert_int_equal(f->o.ring.base, 400);
	assert_next(&f->o, CHUNK_DATA, 400, 1000);
	exec_output_attach(&f->o, 1000, 1 << 20);
	assert_next(&f->o, CHUNK_NONE, 0, 0);
	exec_output_attach(&f->o, 300, 1 << 20); /* a host that lost what it had acknowledged */
	assert_next(&f->o, CHUNK_GAP, 300, 1000);
	assert_int_equal(f->o.acked, 1000);
}

static void eof_is_sent_to_each_stream(void **state)
{
	struct fixture *f = *state;
	f->o.eof = true;
	assert_true(exec_output_drained(&f->o, false));
	assert_next(&f->o, CHUNK_EOF, 0, 0);
	exec_output_attach(&f->o, 0, 0);
	assert_false(exec_output_drained(&f->o, true));
	assert_next(&f->o, CHUNK_EOF, 0, 0);
	assert_true(exec_output_drained(&f->o, true));
}

static void the_total_counts_what_is_in_the_pipe(void **state)
{
	struct fixture *f = *state;
	bool open;
	feed(f, 123);
	assert_int_equal(exec_output_total(&f->o, 0, &open), 123);
	assert_true(open);
	close(f->writer);
	f->writer = -1;
	assert_int_equal(exec_output_total(&f->o, 0, &open), 123);
	assert_false(open);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sends_what_it_reads_then_eof), TEST(credit_is_asked_for_what_was_sent),
		TEST(starves_on_late_credit),       TEST(a_full_ring_blocks),
		TEST(drop_oldest_tells_one_gap),    TEST(a_gap_may_pass_the_limit),
		TEST(credit_is_honoured),           TEST(attach_resumes_exactly),
		TEST(eof_is_sent_to_each_stream),   TEST(the_total_counts_what_is_in_the_pipe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
