#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/rest/utf8.h"

/* A decoder of its own, by the table of the standard: whether s is UTF-8 from end to end. */
static int is_utf8(const uint8_t *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint32_t c = s[i];
		size_t more = c < 0x80             ? 0
			      : (c & 0xe0) == 0xc0 ? 1
			      : (c & 0xf0) == 0xe0 ? 2
			      : (c & 0xf8) == 0xf0 ? 3
						   : 9;
		if (more == 9 || i + more >= len + (more == 0))
			return 0;
		c &= more == 0 ? 0x7f : 0x3fu >> more;
		for (size_t k = 1; k <= more; k++) {
			if ((s[i + k] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i + k] & 0x3f);
		}
		static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
		if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return 0;
		i += more + 1;
	}
	return 1;
}

static size_t put_code_point(uint8_t *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	for (size_t k = more; k; k--, c >>= 6)
		out[k] = 0x80 | (c & 0x3f);
	out[0] = (uint8_t)((0xf0u << (3 - more)) | c);
	return more + 1;
}

static const uint32_t points[] = {'a',    0x7f,   0x80,   0x7ff,   0x800,   0xfff,   0x1000,  0xd7ff,
				  0xe000, 0xfffd, 0xffff, 0x10000, 0x3ffff, 0x40000, 0x10ffff};

/* Feeds data in random pieces; every frame is valid if the whole is; together they are the whole. */
static void check(const uint8_t *data, size_t len, unsigned seed, int valid)
{
	struct utf8_hold h = {0};
	uint8_t *joined = malloc(len + 4), frame[128];
	size_t total = 0;
	for (size_t at = 0; at < len;) {
		seed = seed * 1103515245 + 12345;
		size_t n = 1 + (seed >> 16) % 7;
		if (n > len - at)
			n = len - at;
		size_t out = utf8_feed(&h, data + at, n, frame);
		assert_true(h.len <= 3);
		if (valid)
			assert_true(is_utf8(frame, out));
		memcpy(joined + total, frame, out);
		total += out;
		at += n;
	}
	if (valid)
		assert_int_equal(h.len, 0);
	total += utf8_flush(&h, joined + total);
	assert_int_equal(total, len);
	assert_memory_equal(joined, data, len);
	free(joined);
}

static void valid_text_gives_valid_frames(void **state)
{
	(void)state;
	uint8_t data[400];
	for (unsigned seed = 1; seed < 500; seed++) {
		size_t len = 0;
		unsigned x = seed;
		while (len < sizeof data - 4) {
			x = x * 1664525 + 1013904223;
			len += put_code_point(data + len,
					      points[(x >> 16) % (sizeof points / sizeof *points)]);
		}
		check(data, len, seed, 1);
	}
}

static void any_bytes_pass(void **state)
{
	(void)state;
	uint8_t data[300];
	for (unsigned seed = 1; seed < 500; seed++) {
		unsigned x = seed;
		for (size_t i = 0; i < sizeof data; i++) {
			x = x * 1664525 + 1013904223;
			data[i] = (uint8_t)(x >> 24) | (seed % 2 ? 0x80 : 0);
		}
		check(data, sizeof data, seed, 0);
	}
}

static void holds_back_only_what_can_become_whole(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t held;
	} cases[] = {
		{"a", 0},
		{"a\xc3", 1},
		{"a\xe2\x82", 2},
		{"a\xf0\x9f\x98", 3},
		{"\xe2\x82\xac", 0},
		{"\xc0", 0},
		{"\xc1", 0},
		{"\xf5", 0},
		{"\xff", 0},
		{"\x80", 0},
		{"\xe0\x80", 0},
		{"\xe0\xa0", 2},
		{"\xed\xa0", 0},
		{"\xed\x9f", 2},
		{"\xf0\x80", 0},
		{"\xf4\x90", 0},
		{"\xf4\x8f", 2},
		{"\xc3\xc3", 1},
		{"\x80\x80\x80", 0},
		{"\xf0\x9f", 2},
		{"\xe2\x28", 0},
		{"\xf0\x9f\x28", 0},
		{"\xe2\x82\x82\x82", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(utf8_incomplete((const uint8_t *)cases[i].bytes, strlen(cases[i].bytes)),
				 cases[i].held);
	assert_int_equal(utf8_incomplete(NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid_text_gives_valid_frames),
		cmocka_unit_test(any_bytes_pass),
		cmocka_unit_test(holds_back_only_what_can_become_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
