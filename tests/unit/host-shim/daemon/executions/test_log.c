/* The execution log: what is on disk after a tear at any byte, a full disk, a rotation, a deletion. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host-shim/daemon/executions/log.h"
#include "host-shim/daemon/executions/segment.h"

static const uint8_t id[LOG_ID_SIZE] = "sixteen bytes id";
static char dir[64];
static uv_loop_t loop;
static struct writer *writer;

static void nothing(void *arg)
{
	(void)arg;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/tenon-log-XXXXXX");
	signal(SIGXFSZ, SIG_IGN);
	uv_loop_init(&loop);
	return !mkdtemp(dir) || writer_create(&writer, &loop, NULL) < 0;
}

static int teardown(void **state)
{
	(void)state;
	log_remove(writer, dir);
	writer_destroy(writer);
	uv_run(&loop, UV_RUN_DEFAULT);
	return uv_loop_close(&loop);
}

#define BOUND (2u << 20)

static struct log *open_log(bool fresh)
{
	struct log *l;
	struct log_config c = {.writer = writer, .dir = dir, .id = id, .bound = BOUND, .changed = nothing};
	assert_int_equal(fresh ? log_create(&l, &c, NULL) : log_load(&l, &c, NULL), 0);
	while (!log_loaded(l))
		uv_run(&loop, UV_RUN_ONCE);
	return l;
}

static void settle(struct log *l)
{
	log_flush(l);
	while (!log_settled(l) && !log_failing(l)) {
		uv_run(&loop, UV_RUN_ONCE);
		log_flush(l);
	}
}

/* Jobs run in order: once a load has been answered, what came before it is on disk. */
static void close_log(struct log *l)
{
	log_destroy(l);
	log_destroy(open_log(false));
}

static void read_file(uint64_t position, uint8_t *buf, size_t *len)
{
	char path[128], name[SEGMENT_NAME_SIZE];
	segment_name(name, position);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	*len = (size_t)read(fd, buf, *len);
	close(fd);
}

static void write_file(uint64_t position, const uint8_t *buf, size_t len)
{
	char path[128], name[SEGMENT_NAME_SIZE];
	segment_name(name, position);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, buf, len), len);
	close(fd);
}

static bool same(const struct log_point *a, const struct log_point *b)
{
	return a->offset[1] == b->offset[1] && a->offset[2] == b->offset[2] && a->eof[1] == b->eof[1] &&
	       a->eof[2] == b->eof[2] && a->exit == b->exit;
}

/* One record of each kind, small ones; ends[i] is the file size and points[i] the place after record i. */
static size_t small_log(uint64_t *ends, struct log_point *points)
{
	struct log *l = open_log(true);
	size_t n = 0;
	uint64_t size = LOG_SEGMENT_HEADER;
	for (int i = 0; i < 7; i++) {
		switch (i) {
		case 0:
			log_put_data(l, 1, (const uint8_t *)"hello\n", 6);
			size += 6;
			break;
		case 1:
			log_put_data(l, 2, (const uint8_t *)"error\n", 6);
			size += 6;
			break;
		case 2:
			log_put_gap(l, 1, 1000);
			size += 8;
			break;
		case 3:
			log_put_data(l, 1, (const uint8_t *)"x", 1);
			size += 1;
			break;
		case 4:
			log_put_exit(l, (const uint8_t *)"\x08\x01", 2);
			size += 2;
			break;
		case 5:
			log_put_eof(l, 1);
			break;
		case 6:
			log_put_eof(l, 2);
			break;
		}
		size += LOG_RECORD_HEADER;
		ends[n] = size;
		points[n++] = *log_accepted(l);
	}
	settle(l);
	close_log(l);
	return n;
}

static void test_torn_at_every_byte(void **state)
{
	(void)state;
	uint64_t ends[8];
	struct log_point points[8], none = {0};
	size_t n = small_log(ends, points);
	uint8_t whole[1024], again[1024];
	size_t size = sizeof whole;
	read_file(0, whole, &size);
	assert_int_equal(size, ends[n - 1]);

	for (size_t cut = 0; cut <= size; cut++) {
		write_file(0, whole, cut);
		struct recovered_log r;
		assert_int_equal(recover_log(dir, id, &r, NULL), 0);
		size_t kept = 0;
		while (kept < n && ends[kept] <= cut)
			kept++;
		assert_true(same(&r.end, kept ? &points[kept - 1] : &none));
		assert_int_equal(r.count, cut >= LOG_SEGMENT_HEADER ? 1 : 0);
		assert_int_equal(r.exit != NULL, kept >= 5);
		if (r.count) {
			size_t left = sizeof again;
			read_file(0, again, &left);
			assert_int_equal(left, kept ? ends[kept - 1] : LOG_SEGMENT_HEADER);
		}
		recovered_log_finish(&r);
	}
}

static void test_flipped_bit_anywhere_in_a_header(void **state)
{
	(void)state;
	uint64_t ends[8];
	struct log_point points[8];
	size_t n = small_log(ends, points);
	uint8_t whole[1024], bent[1024];
	size_t size = sizeof whole;
	read_file(0, whole, &size);
	for (size_t i = 1; i < n; i++)
		for (size_t byte = 0; byte < LOG_RECORD_HEADER; byte++) {
			memcpy(bent, whole, size);
			bent[ends[i - 1] + byte] ^= 0x10;
			write_file(0, bent, size);
			struct recovered_log r;
			assert_int_equal(recover_log(dir, id, &r, NULL), 0);
			assert_true(same(&r.end, &points[i - 1]));
			recovered_log_finish(&r);
		}
}

/* Headers whose crc holds, and that still must not be believed. */
static void test_hostile_records(void **state)
{
	(void)state;
	uint8_t buf[LOG_RECORD_HEADER], payload[8];
	struct record out;
	const struct record bad[] = {
		{.kind = RECORD_DATA, .channel = 1, .len = 0},
		{.kind = RECORD_DATA, .channel = 1, .len = LOG_PAYLOAD_MAX + 1},
		{.kind = RECORD_DATA, .channel = 1, .len = UINT32_MAX},
		{.kind = RECORD_DATA, .channel = 0, .len = 1},
		{.kind = RECORD_DATA, .channel = 3, .len = 1},
		{.kind = RECORD_GAP, .channel = 1, .len = 7},
		{.kind = RECORD_EOF, .channel = 2, .len = 1},
		{.kind = RECORD_EXIT, .channel = 1, .len = 1},
		{.kind = RECORD_EXIT, .channel = 0, .len = LOG_EXIT_MAX + 1},
		{.kind = 5, .channel = 1, .len = 1},
		{.kind = 0},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		record_put_header(buf, &bad[i]);
		assert_int_equal(record_get_header(buf, &out), -EBADMSG);
	}

	struct log_point p = {.offset = {0, 10, 5}}, before = p;
	const struct record contradicts[] = {
		{.kind = RECORD_DATA, .channel = 1, .len = 1, .offset = 9, .position = 15},
		{.kind = RECORD_DATA, .channel = 1, .len = 1, .offset = 10, .position = 14},
		{.kind = RECORD_DATA, .channel = 2, .len = 1, .offset = 10, .position = 15},
	};
	for (size_t i = 0; i < sizeof contradicts / sizeof contradicts[0]; i++)
		assert_int_equal(log_point_pass(&p, &contradicts[i], payload), -EBADMSG);
	struct record gap = {.kind = RECORD_GAP, .channel = 1, .len = 8, .offset = 10, .position = 15};
	wire_put_u64(payload, 10);
	assert_int_equal(log_point_pass(&p, &gap, payload), -EBADMSG);
	wire_put_u64(payload, UINT64_MAX);
	assert_int_equal(log_point_pass(&p, &gap, payload), -EBADMSG);
	assert_memory_equal(&p, &before, sizeof p);
}

static void fill(struct log *l, int channel, size_t bytes)
{
	static uint8_t block[FRAME_DATA_MAX];
	while (bytes > 0) {
		size_t n = bytes < sizeof block ? bytes : sizeof block;
		memset(block, (int)(bytes & 255), n);
		log_put_data(l, channel, block, n);
		bytes -= n;
		settle(l);
	}
}

/* A walk leaves long data in the file, and must not believe what the file does not have. */
static void test_torn_in_long_data(void **state)
{
	(void)state;
	static uint8_t whole[64 << 10];
	struct log *l = open_log(true);
	fill(l, 1, 100);
	uint64_t first = log_bytes(l);
	fill(l, 2, 1); /* so that they are two records of stdout */
	fill(l, 1, 30000);
	struct log_point end = *log_accepted(l);
	close_log(l);
	size_t size = sizeof whole, second = first + LOG_RECORD_HEADER + 1;
	read_file(0, whole, &size);
	assert_int_equal(size, second + LOG_RECORD_HEADER + 30000);

	const size_t cuts[] = {size, size - 1, size - 29999, size - 30000, second + 1};
	for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
		write_file(0, whole, cuts[i]);
		struct recovered_log r;
		assert_int_equal(recover_log(dir, id, &r, NULL), 0);
		assert_int_equal(r.end.offset[1], i == 0 ? end.offset[1] : 100);
		assert_int_equal(r.end.offset[2], 1);
		assert_int_equal(r.segments[0].bytes, i == 0 ? size : second);
		recovered_log_finish(&r);
	}

	struct segment_walk w;
	struct segment_header h;
	struct record record;
	const uint8_t *payload;
	write_file(0, whole, size);
	segment_walk_init(&w);
	assert_int_equal(segment_walk_open(&w, dir, id, 0, &h), 0);
	for (int i = 0; i < 2; i++)
		assert_true(segment_walk_next(&w, size - 1, &record, &payload) == 1 && payload);
	assert_int_equal(segment_walk_next(&w, size - 1, &record, &payload), 0); /* not yet */
	assert_int_equal(segment_walk_next(&w, size, &record, &payload), 1);
	assert_null(payload);
	assert_int_equal(segment_walk_tell(&w), size);
	assert_int_equal(segment_walk_load(&w, size - 30000, 30000, &payload), 0);
	assert_memory_equal(payload, whole + size - 30000, 30000);
	assert_int_equal(segment_walk_load(&w, size - 10, 11, &payload), -EIO);
	assert_int_equal(segment_walk_next(&w, UINT64_MAX, &record, &payload), 0);
	segment_walk_finish(&w);
}

/* What comes while the writer is busy is one record, to look at and to send later: also at the start of what
 * is written next. */
static void test_frames_become_one_record(void **state)
{
	(void)state;
	static uint8_t block[60000];
	struct log *l = open_log(true);
	fill(l, 1, 10);
	for (int i = 0; i < 3; i++)
		log_put_data(l, 1, block, sizeof block);
	settle(l);
	close_log(l);

	struct segment_walk w;
	struct segment_header h;
	struct record r;
	const uint8_t *payload;
	segment_walk_init(&w);
	assert_int_equal(segment_walk_open(&w, dir, id, 0, &h), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(segment_walk_next(&w, UINT64_MAX, &r, &payload), 1);
		assert_int_equal(r.len, i == 0 ? 10 : 3 * sizeof block);
	}
	assert_int_equal(segment_walk_next(&w, UINT64_MAX, &r, &payload), 0);
	segment_walk_finish(&w);
}

static void test_rotation_and_reload(void **state)
{
	(void)state;
	struct log *l = open_log(true);
	fill(l, 1, 3 << 20);
	fill(l, 2, 100);
	log_put_eof(l, 1);
	settle(l);
	struct log_point end = *log_accepted(l);
	uint64_t bytes = log_bytes(l), segment, next;
	assert_true(log_find(l, 0, &segment) && segment == 0);
	assert_true(log_next(l, 0, &next) && next > LOG_SEGMENT_SMALL - FRAME_DATA_MAX - 1000 &&
		    next < LOG_SEGMENT_SMALL);
	close_log(l);

	l = open_log(false);
	assert_true(same(log_accepted(l), &end));
	assert_int_equal(log_bytes(l), bytes);
	fill(l, 2, 10);
	end = *log_accepted(l);
	close_log(l);
	l = open_log(false);
	assert_true(same(log_accepted(l), &end));
	log_destroy(l);
}

static void test_headless_newest_is_deleted(void **state)
{
	(void)state;
	struct log *l = open_log(true);
	fill(l, 1, 3000);
	struct log_point end = *log_accepted(l);
	close_log(l);
	write_file(3000, (const uint8_t *)"TNLOG", 5);
	l = open_log(false);
	assert_true(same(log_accepted(l), &end));
	uint64_t next;
	assert_false(log_next(l, 0, &next));
	log_destroy(l);
}

static void test_trim_keeps_what_is_held(void **state)
{
	(void)state;
	struct log *l = open_log(true);
	fill(l, 1, 5 << 20);
	log_trim(l, 0);
	assert_int_equal(log_base(l), 0);
	uint64_t held = (5 << 20) / 2;
	log_trim(l, held);
	assert_true(log_base(l) > 0 && log_base(l) <= held);
	log_trim(l, UINT64_MAX);
	assert_true(log_bytes(l) <= 3 << 20);
	uint64_t base = log_base(l);
	struct log_point end = *log_accepted(l);
	close_log(l);
	l = open_log(false);
	assert_int_equal(log_base(l), base);
	assert_true(same(log_accepted(l), &end));
	log_destroy(l);
}

/* A disk that takes no more: payload is dropped, acknowledged, and a gap once it takes some again. */
static void test_full_disk_becomes_a_gap(void **state)
{
	(void)state;
	struct rlimit limit, old;
	getrlimit(RLIMIT_FSIZE, &old);
	struct log *l = open_log(true);
	fill(l, 1, 1000);
	limit = (struct rlimit){1500, old.rlim_max};
	setrlimit(RLIMIT_FSIZE, &limit);
	fill(l, 1, 5000);
	fill(l, 2, 700);
	log_put_eof(l, 2);
	while (!log_failing(l))
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(log_readable(l), 1000);
	assert_int_equal(log_acked(l)->offset[1], 6000);
	assert_int_equal(log_acked(l)->offset[2], 700);
	log_retry(l); /* the gaps fit */
	setrlimit(RLIMIT_FSIZE, &old);
	settle(l);
	assert_false(log_failing(l));
	assert_int_equal(log_readable(l), 6700);
	fill(l, 1, 10);
	struct log_point end = *log_accepted(l);
	close_log(l);

	struct segment_walk w;
	struct segment_header h;
	struct record r;
	const uint8_t *payload;
	struct log_point p = {0};
	int kinds[8] = {0}, n = 0;
	segment_walk_init(&w);
	assert_int_equal(segment_walk_open(&w, dir, id, 0, &h), 0);
	while (segment_walk_next(&w, UINT64_MAX, &r, &payload) > 0) {
		assert_int_equal(log_point_pass(&p, &r, payload), 0);
		kinds[n++] = r.kind;
	}
	segment_walk_finish(&w);
	assert_true(same(&p, &end));
	const int expected[] = {RECORD_DATA, RECORD_GAP, RECORD_GAP, RECORD_EOF, RECORD_DATA};
	assert_int_equal(n, 5);
	assert_memory_equal(kinds, expected, sizeof expected);
}

static bool is_on_disk(void)
{
	char path[128], name[SEGMENT_NAME_SIZE];
	segment_name(name, 0);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

static void test_ends_without_output_are_no_file(void **state)
{
	(void)state;
	struct log *l = open_log(true);
	log_put_eof(l, 2);
	log_put_exit(l, (const uint8_t *)"\x08\x01", 2);
	log_put_eof(l, 1);
	assert_true(log_settled(l) && same(log_written(l), log_accepted(l)) &&
		    same(log_acked(l), log_accepted(l)));
	settle(l);
	assert_int_equal(log_bytes(l), 0);
	close_log(l);
	assert_false(is_on_disk());
}

/* A child that was left behind writes: what came before it is in the file, too. */
static void test_ends_before_the_first_output(void **state)
{
	(void)state;
	struct log *l = open_log(true);
	log_put_eof(l, 2);
	log_put_exit(l, (const uint8_t *)"\x08\x01", 2);
	log_put_data(l, 1, (const uint8_t *)"late", 4);
	settle(l);
	struct log_point there = *log_accepted(l);
	assert_true(there.eof[2] && there.exit && !there.eof[1] && same(log_written(l), &there));
	close_log(l);
	l = open_log(false);
	assert_true(same(log_accepted(l), &there));
	size_t len;
	assert_memory_equal(log_exit(l, &len), "\x08\x01", 2);
	close_log(l);
}

static void test_small_writes_share_a_record(void **state)
{
	(void)state;
	struct log *l = open_log(true);
	for (int i = 0; i < 1000; i++)
		log_put_data(l, 1, (const uint8_t *)"tick\n", 5);
	settle(l);
	assert_int_equal(log_bytes(l), LOG_SEGMENT_HEADER + LOG_RECORD_HEADER + 5000);
	log_destroy(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_torn_at_every_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn_in_long_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flipped_bit_anywhere_in_a_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frames_become_one_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rotation_and_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headless_newest_is_deleted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trim_keeps_what_is_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk_becomes_a_gap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_writes_share_a_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends_without_output_are_no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends_before_the_first_output, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
