/* Messages packed and unpacked without malloc, and what is unknown in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/link/pack.h"

static uint8_t mem[1 << 20];

static ProtobufCMessage *unpack(const void *bytes, size_t n, struct bump *b)
{
	bump_init(b, mem, sizeof mem);
	return pack_unpack(b, &tenon__request__descriptor, bytes, n);
}

static void unknown_fields_are_found_at_any_depth(void **state)
{
	(void)state;
	struct bump b;
	static const struct {
		const char *bytes;
		size_t n;
		uint32_t number;
	} cases[] = {
		{"", 0, 0},
		{"\xa2\x06\x00", 3, 100},                             /* in the request itself */
		{"\x12\x03\xa2\x06\x00", 5, 100},                     /* in exec */
		{"\x0a\x06\x12\x04\x12\x02\x50\x01", 8, 10},          /* configure.root.overlay */
		{"\x0a\x08\x12\x06\x12\x04\x0a\x02\x58\x01", 10, 11}, /* … .lower */
		{"\x12\x02\x0a\x00", 4, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ProtobufCMessage *m = unpack(cases[i].bytes, cases[i].n, &b);
		assert_non_null(m);
		assert_int_equal(pack_unknown_field(m), cases[i].number);
	}
}

static void malformed_and_too_large_are_told_apart(void **state)
{
	(void)state;
	struct bump b;
	assert_null(unpack("\xff\xff\xff", 3, &b));
	assert_false(b.overflowed);
	assert_null(unpack("\x12\x7f", 2, &b));
	assert_false(b.overflowed);

	static uint8_t many[200003] = {0x12};
	size_t len = 200000 - 4, at = 1; /* exec of 99,998 empty arguments */
	many[at++] = (uint8_t)(len & 0x7f) | 0x80;
	many[at++] = (uint8_t)(len >> 7 & 0x7f) | 0x80;
	many[at++] = (uint8_t)(len >> 14);
	for (size_t i = 0; i < len; i += 2)
		many[at + i] = 0x12;
	assert_null(unpack(many, at + len, &b));
	assert_true(b.overflowed);
}

static void an_answer_is_a_frame(void **state)
{
	(void)state;
	struct sendq q;
	sendq_init(&q, mem, 4096);
	struct fault f = {.code = TENON__CODE__CODE_EXEC_FAILED, .field = "exec.cwd"};
	err_set(&f.err, "chdir", 2, "no such folder");
	assert_true(pack_response_fault(&q, 9, &f));
	struct frame frame;
	assert_int_equal(frame_decode(q.buf, sendq_len(&q), &frame, NULL), sendq_len(&q));
	assert_int_equal(frame.type, FRAME_RSP);
	assert_int_equal(frame.stream, 9);
	Tenon__Response *r = tenon__response__unpack(NULL, frame.len, frame.payload);
	assert_non_null(r);
	assert_int_equal(r->error->code, TENON__CODE__CODE_EXEC_FAILED);
	assert_int_equal(r->error->errnum, 2);
	assert_string_equal(r->error->stage, "chdir");
	assert_string_equal(r->error->field, "exec.cwd");
	assert_string_equal(r->error->message, "no such folder");
	tenon__response__free_unpacked(r, NULL);
}

/* The room that is kept for control frames is computed from these. */
static void the_largest_control_frames_are_small(void **state)
{
	(void)state;
	struct exec_row row = {.state = EXEC_EXITED, .pid = -1, .started_real = UINT64_MAX};
	memset(&row.exit, 0xff, sizeof row.exit);
	row.exit.status = 0xff00;
	row.exit.open[0] = row.exit.open[1] = row.exit.timed_out = row.exit.oom_killed = true;
	row.in.ring.end = row.in.told_limit = row.out[0].ring.base = row.out[0].ring.end = UINT64_MAX;
	row.out[1] = row.out[0];
	struct packed_exec p;
	pack_exec(&p, &row, true);
	assert_true(protobuf_c_message_get_packed_size(&p.state.base) < 256);

	struct sendq q;
	sendq_init(&q, mem, PACK_SMALL_MAX);
	struct fault f = {.code = TENON__CODE__CODE_INVALID_ARGUMENT,
			  .field = "configure.root.overlay.lower"};
	memset(f.err.msg, 'x', sizeof f.err.msg - 1);
	f.err.stage = "a stage with a long name";
	f.err.errnum = 4095;
	assert_true(pack_fault(&q, 0, FRAME_GOAWAY, &f));
	assert_true(sendq_len(&q) < 512);
}

static void an_exit_is_code_or_signal(void **state)
{
	(void)state;
	struct exec_row row = {.exit = {.status = 7 << 8}};
	Tenon__ExitRecord e;
	Tenon__Rusage ru;
	pack_exit(&e, &ru, &row);
	assert_int_equal(e.code, 7);
	assert_int_equal(e.signal, 0);
	row.exit.status = 11 | 0x80;
	pack_exit(&e, &ru, &row);
	assert_int_equal(e.code, 0);
	assert_int_equal(e.signal, 11);
	assert_true(e.core_dumped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_fields_are_found_at_any_depth),
		cmocka_unit_test(malformed_and_too_large_are_told_apart),
		cmocka_unit_test(an_answer_is_a_frame),
		cmocka_unit_test(the_largest_control_frames_are_small),
		cmocka_unit_test(an_exit_is_code_or_signal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
