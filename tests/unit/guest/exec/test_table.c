/* Rows, ids and tombstones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec/table.h"

static struct exec_table t;

static int set_up(void **state)
{
	(void)state;
	return exec_table_init(&t, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	exec_table_finish(&t);
	return 0;
}

static const uint8_t *id_of(uint64_t n)
{
	static uint8_t id[EXEC_ID_SIZE];
	memcpy(id, &n, sizeof n);
	memcpy(id + 8, &n, sizeof n);
	return id;
}

static int take(uint64_t n)
{
	int row = exec_table_take(&t, id_of(n));
	if (row >= 0)
		exec_table_row(&t, row)->state = EXEC_RUNNING;
	return row;
}

static void rows_are_taken_from_below(void **state)
{
	(void)state;
	for (int i = 0; i < EXEC_ROWS; i++)
		assert_int_equal(take((uint64_t)i), i);
	assert_int_equal(take(9999), -1);
	exec_table_release(&t, 700);
	exec_table_release(&t, 64);
	assert_int_equal(take(1), 64);
	assert_int_equal(take(2), 700);
	assert_int_equal(take(3), -1);
}

static void a_fresh_row_is_clean(void **state)
{
	(void)state;
	int row = take(5);
	struct exec_row *r = exec_table_row(&t, row);
	r->pid = 77;
	r->out[0].ring.end = 5;
	exec_table_release(&t, row);
	assert_int_equal(take(6), row);
	assert_int_equal(r->pid, 0);
	assert_int_equal(r->out[0].ring.end, 0);
	assert_int_equal(r->in.fd, -1);
	assert_int_equal(r->out[1].fd, -1);
	assert_memory_equal(r->id, id_of(6), EXEC_ID_SIZE);
}

static void finds_the_living_and_the_dead(void **state)
{
	(void)state;
	int row, a = take(1), b = take(2);
	assert_int_equal(exec_table_find(&t, id_of(2), &row), EXEC_LIVE);
	assert_int_equal(row, b);
	assert_int_equal(exec_table_find(&t, id_of(0), &row), EXEC_UNKNOWN); /* an id of zeros is an id */
	exec_table_bury(&t, id_of(1));
	exec_table_release(&t, a);
	assert_int_equal(exec_table_find(&t, id_of(1), &row), EXEC_GONE);
	exec_table_row(&t, b)->state = EXEC_FREE; /* waits for its release only */
	assert_int_equal(exec_table_find(&t, id_of(2), &row), EXEC_UNKNOWN);
}

static void the_oldest_tombstones_give_way(void **state)
{
	(void)state;
	int row;
	for (uint64_t i = 0; i < EXEC_TOMBSTONES + 3; i++)
		exec_table_bury(&t, id_of(i + 1));
	assert_int_equal(exec_table_find(&t, id_of(3), &row), EXEC_UNKNOWN);
	assert_int_equal(exec_table_find(&t, id_of(4), &row), EXEC_GONE);
	assert_int_equal(exec_table_find(&t, id_of(EXEC_TOMBSTONES + 3), &row), EXEC_GONE);
}

static void walks_the_rows_in_use(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 200; i++)
		take(i);
	for (int i = 0; i < 200; i++)
		if (i != 3 && i != 63 && i != 64 && i != 199)
			exec_table_release(&t, i);
	assert_int_equal(exec_table_next(&t, -1), 3);
	assert_int_equal(exec_table_next(&t, 3), 63);
	assert_int_equal(exec_table_next(&t, 63), 64);
	assert_int_equal(exec_table_next(&t, 64), 199);
	assert_int_equal(exec_table_next(&t, 199), -1);
	assert_int_equal(exec_table_next(&t, EXEC_ROWS - 1), -1);
}

static long blocks(void)
{
	struct stat st;
	assert_int_equal(fstat(t.memfd, &st), 0);
	return (long)st.st_blocks;
}

static void rings_give_their_memory_back(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		for (int c = 0; c < 3; c++)
			memset(exec_table_ring(&t, take(3 * i + (uint64_t)c) / 3, (enum frame_channel)c), 1,
			       RING_SIZE);
	long full = blocks();
	for (int i = 0; i < 300; i++)
		exec_table_release(&t, i);
	assert_true(full > 100 * 3 * RING_SIZE / 512);
	assert_true(blocks() < (EXEC_WARM_ROWS * 3 * (long)RING_SIZE + 600000) / 512);
	assert_int_equal(exec_table_ring(&t, 99, CHANNEL_STDERR)[0], 0);
}

static void wide_rings_go_to_who_needs_them(void **state)
{
	(void)state;
	int rows[EXEC_WIDE + 1];
	for (uint64_t i = 0; i <= EXEC_WIDE; i++) {
		rows[i] = take(i);
		struct ring *r = exec_table_window(&t, rows[i], CHANNEL_STDERR);
		r->end = RING_SIZE;
		exec_table_ring(&t, rows[i], CHANNEL_STDERR)[7] = (uint8_t)(70 + i);
		assert_int_equal(exec_table_widen(&t, rows[i], CHANNEL_STDERR), i < EXEC_WIDE);
		assert_int_equal(exec_table_ring(&t, rows[i], CHANNEL_STDERR)[7], 70 + i);
	}
	assert_true(exec_table_wide_fits(&t));
	assert_false(exec_table_widen(&t, rows[0], CHANNEL_STDERR)); /* it has one */
	ring_spread(exec_table_window(&t, rows[1], CHANNEL_STDERR),
		    exec_table_ring(&t, rows[1], CHANNEL_STDERR));
	exec_table_window(&t, rows[1], CHANNEL_STDERR)->base = RING_SIZE; /* holds nothing any more */
	assert_true(exec_table_widen(&t, rows[EXEC_WIDE], CHANNEL_STDERR));
	assert_int_equal(ring_size(exec_table_window(&t, rows[1], CHANNEL_STDERR)), RING_SIZE);
	assert_int_equal(exec_table_ring(&t, rows[EXEC_WIDE], CHANNEL_STDERR)[7], 70 + EXEC_WIDE);

	exec_table_narrow(&t, rows[EXEC_WIDE], CHANNEL_STDERR); /* and gives it back before its row ends */
	assert_true(exec_table_widen(&t, rows[EXEC_WIDE], CHANNEL_STDERR));
	exec_table_window(&t, rows[1], CHANNEL_STDOUT)->wide = EXEC_WIDE;
	assert_false(exec_table_wide_fits(&t)); /* two have it */
	exec_table_window(&t, rows[1], CHANNEL_STDOUT)->wide = EXEC_WIDE + 1;
	assert_false(exec_table_wide_fits(&t));
	exec_table_window(&t, rows[1], CHANNEL_STDOUT)->wide = 0;

	long full = blocks();
	exec_table_release(&t, rows[0]);
	assert_true(blocks() <= full - (long)RING_SIZE / 2 / 512);
	assert_true(exec_table_widen(&t, rows[1], CHANNEL_STDOUT));
}

static void another_program_finds_it_as_it_was(void **state)
{
	(void)state;
	struct exec_table other;
	struct err e;
	int row, a = take(1), b = take(2);
	exec_table_ring(&t, b, CHANNEL_STDOUT)[5] = 55;
	exec_table_bury(&t, id_of(9));
	assert_int_equal(exec_table_adopt(&other, dup(t.memfd), true, &e), 0);
	assert_int_equal(exec_table_find(&other, id_of(2), &row), EXEC_LIVE);
	assert_int_equal(row, b);
	assert_int_equal(exec_table_ring(&other, b, CHANNEL_STDOUT)[5], 55);
	assert_int_equal(exec_table_find(&other, id_of(9), &row), EXEC_GONE);
	exec_table_row(&other, a)->state = EXEC_FREE;
	assert_int_equal(exec_table_row(&t, a)->state, EXEC_FREE); /* the same memory */
	exec_table_finish(&other);

	int no_arena = memfd_create("x", MFD_CLOEXEC);
	assert_int_equal(exec_table_adopt(&other, no_arena, true, &e), -EINVAL);
	assert_int_equal(ftruncate(no_arena, sizeof *t.arena), 0);
	assert_int_equal(exec_table_adopt(&other, no_arena, true, &e), -EINVAL); /* not sealed */
	close(no_arena);
	assert_int_equal(exec_table_adopt(&other, -1, true, &e), -EINVAL);
}

static void a_snapshot_stays_as_it_was(void **state)
{
	(void)state;
	struct exec_table copy;
	struct err e;
	int row, rows[] = {take(1), take(2), take(3)};
	exec_table_release(&t, rows[1]);
	exec_table_bury(&t, id_of(7));
	long before = blocks();
	int fd = exec_table_snapshot(&t, &e);
	assert_int_equal(exec_table_adopt(&copy, fd, false, &e), 0);
	assert_int_equal(blocks(), before); /* looking at it has made nothing of it */
	exec_table_row(&t, rows[0])->pid = 99;
	exec_table_release(&t, rows[2]);
	assert_int_equal(exec_table_row(&copy, rows[0])->pid, 0);
	assert_int_equal(exec_table_find(&copy, id_of(3), &row), EXEC_LIVE);
	assert_int_equal(exec_table_find(&copy, id_of(2), &row), EXEC_UNKNOWN);
	assert_int_equal(exec_table_find(&copy, id_of(7), &row), EXEC_GONE);
	exec_table_finish(&copy);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rows_are_taken_from_below),       TEST(a_fresh_row_is_clean),
		TEST(finds_the_living_and_the_dead),   TEST(the_oldest_tombstones_give_way),
		TEST(walks_the_rows_in_use),           TEST(rings_give_their_memory_back),
		TEST(wide_rings_go_to_who_needs_them), TEST(another_program_finds_it_as_it_was),
		TEST(a_snapshot_stays_as_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
