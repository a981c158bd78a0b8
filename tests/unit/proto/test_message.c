/* Messages in pieces (WIRE.md §2, MORE): cut and joined again. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"

static struct frame piece(uint8_t type, uint32_t stream, const char *bytes, bool more)
{
	return (struct frame){.len = (uint32_t)strlen(bytes),
			      .stream = stream,
			      .type = type,
			      .flags = more ? FRAME_MORE : 0,
			      .payload = (const uint8_t *)bytes};
}

static void one_frame_is_not_copied(void **state)
{
	(void)state;
	struct message_joiner j;
	struct message m;
	message_joiner_init(&j, NULL, 0);
	struct frame f = piece(FRAME_REQ, 1, "whole", false);
	assert_int_equal(message_join(&j, &f, &m, NULL), 1);
	assert_ptr_equal(m.data, f.payload);
	assert_int_equal(m.len, 5);
}

static void pieces_become_one(void **state)
{
	(void)state;
	uint8_t buf[16];
	struct message_joiner j;
	struct message m;
	message_joiner_init(&j, buf, sizeof buf);
	struct frame f = piece(FRAME_REQ, 3, "ab", true);
	assert_int_equal(message_join(&j, &f, &m, NULL), 0);
	f = piece(FRAME_REQ, 3, "cd", true);
	assert_int_equal(message_join(&j, &f, &m, NULL), 0);
	f = piece(FRAME_REQ, 3, "", false);
	assert_int_equal(message_join(&j, &f, &m, NULL), 1);
	assert_int_equal(m.len, 4);
	assert_int_equal(m.stream, 3);
	assert_int_equal(m.type, FRAME_REQ);
	assert_memory_equal(m.data, "abcd", 4);
	f = piece(FRAME_REQ, 5, "next", false);
	assert_int_equal(message_join(&j, &f, &m, NULL), 1);
}

static void pieces_of_two_do_not_mix(void **state)
{
	(void)state;
	const struct frame others[] = {piece(FRAME_REQ, 5, "x", false), piece(FRAME_RSP, 3, "x", false)};
	for (int i = 0; i < 2; i++) {
		uint8_t buf[16];
		struct message_joiner j;
		struct message m;
		message_joiner_init(&j, buf, sizeof buf);
		struct frame f = piece(FRAME_REQ, 3, "ab", true);
		assert_int_equal(message_join(&j, &f, &m, NULL), 0);
		assert_int_equal(message_join(&j, &others[i], &m, NULL), -EPROTO);
	}
}

static void a_message_has_a_bound(void **state)
{
	(void)state;
	uint8_t buf[4];
	struct message_joiner j;
	struct message m;
	message_joiner_init(&j, buf, sizeof buf);
	struct frame f = piece(FRAME_REQ, 3, "abcd", true);
	assert_int_equal(message_join(&j, &f, &m, NULL), 0);
	f = piece(FRAME_REQ, 3, "e", false);
	assert_int_equal(message_join(&j, &f, &m, NULL), -EMSGSIZE);
}

static void cut_and_joined_it_is_the_same(void **state)
{
	(void)state;
	const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000, MESSAGE_MAX};
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		size_t len = sizes[s], wire = message_wire_size(len);
		uint8_t *buf = malloc(wire), *joined = malloc(MESSAGE_MAX);
		for (size_t i = 0; i < len; i++)
			buf[wire - len + i] = (uint8_t)(i * 7 + i / 256);
		message_put_frames(buf, len, 9, FRAME_RSP);

		struct message_joiner j;
		struct message m = {0};
		message_joiner_init(&j, joined, MESSAGE_MAX);
		size_t at = 0;
		int r = 0;
		while (at < wire) {
			struct frame f;
			ssize_t n = frame_decode(buf + at, wire - at, &f, NULL);
			assert_true(n > 0);
			at += (size_t)n;
			r = message_join(&j, &f, &m, NULL);
			assert_int_equal(r, at == wire);
		}
		assert_int_equal(r, 1);
		assert_int_equal(m.len, len);
		for (size_t i = 0; i < len; i++)
			assert_int_equal(m.data[i], (uint8_t)(i * 7 + i / 256));
		free(buf);
		free(joined);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_frame_is_not_copied),       cmocka_unit_test(pieces_become_one),
		cmocka_unit_test(pieces_of_two_do_not_mix),      cmocka_unit_test(a_message_has_a_bound),
		cmocka_unit_test(cut_and_joined_it_is_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
