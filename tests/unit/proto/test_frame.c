/* The frame codec against bytes written by hand from WIRE.md §2. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/frame.h"

static void assert_bytes(const uint8_t *got, size_t n, const char *hex)
{
	assert_int_equal(n * 2, strlen(hex));
	for (size_t i = 0; i < n; i++) {
		char text[3] = {hex[2 * i], hex[2 * i + 1], 0};
		assert_int_equal(got[i], strtoul(text, NULL, 16));
	}
}

static void writes_golden_headers(void **state)
{
	(void)state;
	uint8_t out[64];
	frame_put_header(
		out, &(struct frame){
			     .len = 0x12345, .stream = 0x89abcdef, .type = FRAME_REQ, .flags = FRAME_MORE});
	assert_bytes(out, 12, "45230100efcdab8902400000");
	size_t n = frame_put_credit(out, 7, CHANNEL_STDOUT, 0x0102030405060708, 0x1112131415161718);
	assert_bytes(out, n,
		     "1000000007000000050100000807060504030201"
		     "1817161514131211");
	n = frame_put_gap(out, 9, CHANNEL_STDERR, 1, 2);
	assert_bytes(out, n,
		     "100000000900000006020000"
		     "0100000000000000"
		     "0200000000000000");
	n = frame_put_eof(out, 3, CHANNEL_STDIN, 5);
	assert_bytes(out, n,
		     "080000000300000007000000"
		     "0500000000000000");
	n = frame_put_ping(out, FRAME_PONG, (const uint8_t *)"\1\2\3\4\5\6\7\10");
	assert_bytes(out, n,
		     "08000000000000000b000000"
		     "0102030405060708");
	n = frame_put_data_head(out, 5, CHANNEL_STDOUT, 0xff, 3);
	assert_bytes(out, n,
		     "0b0000000500000004010000"
		     "ff00000000000000");
	assert_int_equal(n, FRAME_DATA_HEAD);
	frame_put_hello_prefix(out);
	assert_bytes(out, 8, "544e4f4e01000000");
}

static void reads_back_what_it_wrote(void **state)
{
	(void)state;
	uint8_t buf[64];
	struct frame f;
	size_t n = frame_put_data_head(buf, 11, CHANNEL_STDERR, 1ULL << 61, 4);
	memcpy(buf + n, "tail", 4);
	assert_int_equal(frame_decode(buf, n + 4, &f, NULL), n + 4);
	assert_int_equal(f.type, FRAME_DATA);
	assert_int_equal(f.stream, 11);
	assert_int_equal(frame_channel(&f), CHANNEL_STDERR);
	assert_true(frame_offset(&f) == 1ULL << 61);
	size_t len;
	assert_memory_equal(frame_data(&f, &len), "tail", 4);
	assert_int_equal(len, 4);

	n = frame_put_credit(buf, 11, CHANNEL_STDOUT, 7, 9);
	assert_int_equal(frame_decode(buf, n, &f, NULL), n);
	assert_int_equal(frame_pair(&f).a, 7);
	assert_int_equal(frame_pair(&f).b, 9);
}

/* A header by its fields; the payload begins with two u64 and is zero behind them. */
struct sample {
	uint32_t len, stream;
	uint8_t type, flags;
	uint16_t zero;
	uint64_t first, second;
};

static ssize_t decode_sample(const struct sample *s)
{
	static uint8_t buf[FRAME_SIZE_MAX];
	memset(buf, 0, sizeof buf);
	frame_put_header(
		buf, &(struct frame){.len = s->len, .stream = s->stream, .type = s->type, .flags = s->flags});
	wire_put_u16(buf + 10, s->zero);
	wire_put_u64(buf + FRAME_HEADER_SIZE, s->first);
	wire_put_u64(buf + FRAME_HEADER_SIZE + 8, s->second);
	struct frame f;
	struct err e = {.errnum = 0};
	ssize_t r = frame_decode(buf, sizeof buf, &f, &e);
	assert_int_equal(r < 0, e.errnum == EPROTO);
	return r;
}

#define END (UINT64_C(1) << 62)

static void takes_what_the_table_allows(void **state)
{
	(void)state;
	const struct sample good[] = {
		{8, 0, FRAME_HELLO, 0, 0, 0, 0},
		{4096, 0, FRAME_HELLO, 0, 0, 0, 0},
		{0, 1, FRAME_REQ, 0, 0, 0, 0},
		{65536, 1, FRAME_REQ, FRAME_MORE, 0, 0, 0},
		{65536, 0x7fffffff, FRAME_RSP, FRAME_MORE, 0, 0, 0},
		{9, 3, FRAME_DATA, CHANNEL_STDIN, 0, 0, 0},
		{65536, 3, FRAME_DATA, CHANNEL_STDERR, 0, 0, 0},
		{16, 3, FRAME_CREDIT, CHANNEL_STDOUT, 0, 5, 5},
		{16, 3, FRAME_CREDIT, CHANNEL_STDOUT, 0, 0, END - 1},
		{16, 3, FRAME_GAP, CHANNEL_STDOUT, 0, 5, 6},
		{8, 3, FRAME_EOF, CHANNEL_STDIN, 0, 0, 0},
		{1024, 3, FRAME_RESET, 0, 0, 0, 0},
		{0, 3, FRAME_RESET, 0, 0, 0, 0},
		{3, 0, FRAME_EVENT, 0, 0, 0, 0},
		{3, 3, FRAME_EVENT, FRAME_MORE, 0, 0, 0},
		{8, 0, FRAME_PING, FRAME_OPTIONAL, 0, 0, 0},
		{8, 0, FRAME_PONG, 0, 0, 0, 0},
		{1024, 0, FRAME_GOAWAY, 0, 0, 0, 0},
		{12, 8, 200, FRAME_OPTIONAL | 0x3f, 0, 0, 0},
	};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_int_equal(decode_sample(&good[i]), FRAME_HEADER_SIZE + good[i].len);
}

static void refuses_all_else(void **state)
{
	(void)state;
	const struct sample bad[] = {
		{65537, 1, FRAME_REQ, 0, 0, 0, 0},       {0xffffffff, 1, FRAME_REQ, 0, 0, 0, 0},
		{8, 0, FRAME_PING, 0, 1, 0, 0},          {8, 0, FRAME_PING, 0, 0x8000, 0, 0},
		{0, 0, 0, FRAME_OPTIONAL, 0, 0, 0},      {0, 0, 13, 0, 0, 0, 0},
		{7, 0, FRAME_HELLO, 0, 0, 0, 0},         {4097, 0, FRAME_HELLO, 0, 0, 0, 0},
		{8, 1, FRAME_HELLO, 0, 0, 0, 0},         {1, 0, FRAME_REQ, 0, 0, 0, 0},
		{1, 2, FRAME_REQ, 0, 0, 0, 0},           {1, 1, FRAME_REQ, CHANNEL_STDOUT, 0, 0, 0},
		{0, 1, FRAME_REQ, FRAME_MORE, 0, 0, 0},  {1, 1, FRAME_REQ, 0x20, 0, 0, 0},
		{8, 1, FRAME_DATA, 0, 0, 0, 0},          {9, 1, FRAME_DATA, 3, 0, 0, 0},
		{9, 1, FRAME_DATA, FRAME_MORE, 0, 0, 0}, {9, 0, FRAME_DATA, 0, 0, 0, 0},
		{9, 1, FRAME_DATA, 0, 0, END, 0},        {9, 1, FRAME_DATA, 0, 0, UINT64_MAX, 0},
		{15, 1, FRAME_CREDIT, 1, 0, 0, 0},       {17, 1, FRAME_CREDIT, 1, 0, 0, 0},
		{16, 1, FRAME_CREDIT, 1, 0, 6, 5},       {16, 1, FRAME_CREDIT, 1, 0, 0, END},
		{16, 1, FRAME_GAP, 1, 0, 5, 5},          {16, 1, FRAME_GAP, 1, 0, 6, 5},
		{16, 1, FRAME_GAP, 0, 0, 5, 6},          {16, 1, FRAME_GAP, 1, 0, 5, END},
		{7, 1, FRAME_EOF, 0, 0, 0, 0},           {8, 1, FRAME_EOF, 0, 0, END, 0},
		{1025, 1, FRAME_RESET, 0, 0, 0, 0},      {0, 0, FRAME_RESET, 0, 0, 0, 0},
		{7, 0, FRAME_PING, 0, 0, 0, 0},          {8, 1, FRAME_PONG, 0, 0, 0, 0},
		{1025, 0, FRAME_GOAWAY, 0, 0, 0, 0},     {1, 1, FRAME_GOAWAY, 0, 0, 0, 0},
		{1, 2, FRAME_EVENT, 0, 0, 0, 0},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (decode_sample(&bad[i]) != -EPROTO)
			fail_msg("sample %zu was not refused", i);
}

/* Three frames in a row, however they arrive. */
static size_t three_frames(uint8_t *buf)
{
	size_t n = frame_put_ping(buf, FRAME_PING, (const uint8_t *)"abcdefgh");
	n += frame_put_data_head(buf + n, 1, CHANNEL_STDOUT, 77, 5);
	memcpy(buf + n, "hello", 5);
	n += 5;
	return n + frame_put_eof(buf + n, 1, CHANNEL_STDOUT, 82);
}

static void joins_what_arrives_byte_by_byte(void **state)
{
	(void)state;
	uint8_t bytes[128];
	size_t n = three_frames(bytes);
	for (size_t piece = 1; piece <= n; piece++) {
		static uint8_t buf[FRAME_SIZE_MAX];
		struct frame_reader r;
		struct frame f;
		frame_reader_init(&r, buf, sizeof buf);
		uint8_t types[3];
		int found = 0;
		for (size_t at = 0; at < n; at += piece) {
			size_t room, take = n - at < piece ? n - at : piece;
			uint8_t *space = frame_reader_space(&r, &room);
			assert_true(room >= take);
			memcpy(space, bytes + at, take);
			frame_reader_commit(&r, take);
			while (frame_reader_next(&r, &f, NULL) == 1)
				types[found++] = f.type;
		}
		assert_int_equal(found, 3);
		assert_memory_equal(types, ((uint8_t[]){FRAME_PING, FRAME_DATA, FRAME_EOF}), 3);
	}
}

static void a_prefix_is_never_an_error(void **state)
{
	(void)state;
	uint8_t bytes[128];
	size_t n = frame_put_gap(bytes, 1, CHANNEL_STDOUT, 1, 2);
	struct frame f;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(frame_decode(bytes, i, &f, NULL), 0);
}

static void a_bad_header_is_told_before_its_payload(void **state)
{
	(void)state;
	uint8_t header[FRAME_HEADER_SIZE];
	struct frame f;
	struct err e;
	frame_put_header(header, &(struct frame){.len = 70000, .stream = 1, .type = FRAME_REQ});
	assert_int_equal(frame_decode(header, sizeof header, &f, &e), -EPROTO);
	assert_string_equal(e.stage, "frame");
}

static void reads_from_a_descriptor(void **state)
{
	(void)state;
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	uint8_t bytes[128];
	static uint8_t buf[FRAME_SIZE_MAX];
	size_t n = three_frames(bytes);
	assert_int_equal(write(fds[1], bytes, n), n);
	struct frame_reader r;
	struct frame f;
	frame_reader_init(&r, buf, sizeof buf);
	assert_int_equal(frame_reader_fill(&r, fds[0]), n);
	close(fds[1]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(frame_reader_next(&r, &f, NULL), 1);
	assert_int_equal(frame_reader_next(&r, &f, NULL), 0);
	assert_int_equal(frame_reader_fill(&r, fds[0]), 0);
	close(fds[0]);
	assert_int_equal(frame_reader_fill(&r, fds[0]), -EBADF);
}

static void judges_hello_prefixes(void **state)
{
	(void)state;
	const struct {
		const char *bytes;
		int result;
	} cases[] = {{"TNON\1\0\0\0", 1},
		     {"TNON\2\1\0\0", 258},
		     {"TNON\0\0\0\0", -EPROTO},
		     {"TNOM\1\0\0\0", -EPROTO}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct frame f = {.len = 8, .type = FRAME_HELLO, .payload = (const uint8_t *)cases[i].bytes};
		assert_int_equal(frame_get_hello_prefix(&f, NULL), cases[i].result);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_golden_headers),
		cmocka_unit_test(reads_back_what_it_wrote),
		cmocka_unit_test(takes_what_the_table_allows),
		cmocka_unit_test(refuses_all_else),
		cmocka_unit_test(joins_what_arrives_byte_by_byte),
		cmocka_unit_test(a_prefix_is_never_an_error),
		cmocka_unit_test(a_bad_header_is_told_before_its_payload),
		cmocka_unit_test(reads_from_a_descriptor),
		cmocka_unit_test(judges_hello_prefixes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
