/* stdin: offsets, credits, resending. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/executions/input.h"

static unsigned done_ok, done_failed, drained;

static void on_done(void *arg, const struct failure *f)
{
	(void)arg;
	if (f)
		done_failed++;
	else
		done_ok++;
}

static void on_drained(void *arg)
{
	(void)arg;
	drained++;
}

static int setup(void **state)
{
	(void)state;
	done_ok = done_failed = drained = 0;
	return 0;
}

static const struct failure gone = {.kind = FAIL_CONFLICT};

static void test_credit_bounds_what_is_sent(void **state)
{
	(void)state;
	struct input in;
	uint64_t offset;
	const uint8_t *data;
	input_init(&in);
	assert_int_equal(input_resume(&in, 0, 4, false), 0);
	assert_true(input_push(&in, "abcdef", 6, on_done, NULL));
	assert_true(input_push(&in, "gh", 2, on_done, NULL));
	assert_int_equal(input_next(&in, 3, &offset, &data), 3);
	assert_int_equal(offset, 0);
	assert_memory_equal(data, "abc", 3);
	assert_int_equal(input_next(&in, 100, &offset, &data), 1);
	assert_int_equal(input_next(&in, 100, &offset, &data), 0);
	assert_int_equal(input_credit(&in, 4, 100), 0);
	assert_int_equal(done_ok, 0);
	assert_int_equal(input_next(&in, 100, &offset, &data), 2);
	assert_memory_equal(data, "ef", 2);
	assert_int_equal(input_next(&in, 100, &offset, &data), 2);
	assert_int_equal(offset, 6);
	assert_int_equal(input_credit(&in, 9, 100), -EPROTO);
	assert_int_equal(input_credit(&in, 7, 100), 0);
	assert_int_equal(done_ok, 1);
	assert_int_equal(input_credit(&in, 2, 3), 0); /* stale: harmless */
	assert_int_equal(input_queued(&in), 1);
	input_finish(&in, &gone);
	assert_int_equal(done_failed, 1);
}

static void test_reconnect_resends_from_acked(void **state)
{
	(void)state;
	struct input in;
	uint64_t offset;
	const uint8_t *data;
	input_init(&in);
	input_resume(&in, 0, 100, false);
	input_push(&in, "abcdef", 6, on_done, NULL);
	in.eof = true;
	assert_int_equal(input_next(&in, 100, &offset, &data), 6);
	assert_true(input_eof_due(&in));
	assert_false(input_eof_due(&in));
	assert_int_equal(input_resume(&in, 2, 100, false), 0);
	assert_int_equal(input_next(&in, 100, &offset, &data), 4);
	assert_int_equal(offset, 2);
	assert_memory_equal(data, "cdef", 4);
	assert_true(input_eof_due(&in));
	assert_int_equal(input_resume(&in, 1, 100, false), -EPROTO); /* acknowledged, and then not */
	assert_int_equal(input_resume(&in, 7, 100, false), -EPROTO);
	assert_int_equal(input_resume(&in, 6, 100, true), 0); /* closed because our EOF arrived */
	assert_int_equal(done_ok, 1);
	assert_int_equal(done_failed, 0);
	input_finish(&in, &gone);
}

static void test_adopted_offsets(void **state)
{
	(void)state;
	struct input in;
	uint64_t offset;
	const uint8_t *data;
	input_init(&in);
	input_push(&in, "xyz", 3, on_done, NULL); /* before the first attach after a restart */
	assert_int_equal(input_resume(&in, 1000, 2000, false), 0);
	assert_int_equal(input_next(&in, 100, &offset, &data), 3);
	assert_int_equal(offset, 1000);
	assert_int_equal(input_credit(&in, 1003, 2000), 0);
	assert_int_equal(done_ok, 1);
	input_finish(&in, &gone);
}

static void test_process_closes_stdin(void **state)
{
	(void)state;
	struct input in;
	uint64_t offset;
	const uint8_t *data;
	input_init(&in);
	input_resume(&in, 0, 10, false);
	input_push(&in, "abc", 3, on_done, NULL);
	input_push(&in, "def", 3, on_done, NULL);
	input_next(&in, 100, &offset, &data);
	input_next(&in, 100, &offset, &data);
	assert_int_equal(input_close(&in, 7), -EPROTO);
	assert_int_equal(input_close(&in, 4), 0);
	assert_int_equal(done_ok, 1);
	assert_int_equal(done_failed, 1);
	assert_int_equal(input_queued(&in), 0);
	assert_int_equal(input_next(&in, 100, &offset, &data), 0);
	assert_false(input_eof_due(&in));
}

static void test_drain_is_told_once(void **state)
{
	(void)state;
	static uint8_t block[1 << 20];
	struct input in;
	uint64_t offset;
	const uint8_t *data;
	input_init(&in);
	input_resume(&in, 0, UINT32_MAX, false);
	for (int i = 0; i < 4; i++)
		input_push(&in, block, sizeof block, NULL, NULL);
	in.drained = on_drained;
	while (input_next(&in, 65536, &offset, &data) > 0)
		;
	input_credit(&in, 1 << 20, UINT32_MAX);
	assert_int_equal(drained, 0);
	input_credit(&in, 2 << 20, UINT32_MAX);
	input_credit(&in, 3 << 20, UINT32_MAX);
	assert_int_equal(drained, 1);
	input_finish(&in, &gone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_credit_bounds_what_is_sent, setup),
		cmocka_unit_test_setup(test_reconnect_resends_from_acked, setup),
		cmocka_unit_test_setup(test_adopted_offsets, setup),
		cmocka_unit_test_setup(test_process_closes_stdin, setup),
		cmocka_unit_test_setup(test_drain_is_told_once, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
