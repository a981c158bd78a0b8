/* A bulk connection against a scripted worker: what it says right and all that it may say wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "host-shim/daemon/link/bulk.h"
#include "later.h"
#include "proto/frame.h"
#include "proto/tenon.pb-c.h"

#define EPOCH 7u

static uv_loop_t loop;
static char path[64];
static int listener = -1, peer = -1;
static struct bulk *b;
static struct frame_reader heard;
static uint8_t heard_buf[2 * FRAME_SIZE_MAX];
static unsigned wakes;

static void on_wake(void *arg)
{
	(void)arg;
	wakes++;
}

static int setup(void **state)
{
	(void)state;
	uv_loop_init(&loop);
	strcpy(path, "/tmp/tenon-bulk-XXXXXX");
	if (!mkdtemp(path))
		return -1;
	strcat(path, "/s");
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	strcpy(at.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	return bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 8) < 0;
}

static void hang_up(void)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
}

static int teardown(void **state)
{
	(void)state;
	bulk_destroy(b);
	b = NULL;
	uv_run(&loop, UV_RUN_DEFAULT);
	hang_up();
	close(listener);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	return uv_loop_close(&loop);
}

static void spin(void)
{
	for (int i = 0; i < 20; i++)
		uv_run(&loop, UV_RUN_NOWAIT);
}

static void wait_ms(unsigned ms)
{
	later_ms += ms;
	spin();
}

static void say(const void *data, size_t len)
{
	assert_int_equal(send(peer, data, len, MSG_NOSIGNAL), len);
}

static void say_frame(uint8_t type, uint32_t stream, uint8_t flags, const void *payload, size_t len)
{
	uint8_t header[FRAME_HEADER_SIZE];
	frame_put_header(
		header,
		&(struct frame){.len = (uint32_t)len, .stream = stream, .type = type, .flags = flags});
	say(header, sizeof header);
	if (len)
		say(payload, len);
}

static struct frame hear(uint8_t type)
{
	struct frame f;
	struct err e;
	int r;
	while ((r = frame_reader_next(&heard, &f, &e)) == 0)
		assert_true(frame_reader_fill(&heard, peer) > 0);
	assert_int_equal(r, 1);
	assert_int_equal(f.type, type);
	return f;
}

static void say_hello(void)
{
	uint8_t buf[128];
	Tenon__Hello m = TENON__HELLO__INIT;
	frame_put_hello_prefix(buf);
	say_frame(FRAME_HELLO, 0, 0, buf,
		  FRAME_HELLO_PREFIX + tenon__hello__pack(&m, buf + FRAME_HELLO_PREFIX));
}

/* Up to where the worker has read the request; it is not answered. */
static void ask(Tenon__BulkRequest *req, unsigned port)
{
	struct bulk_config c = {
		.loop = &loop, .socket_path = path, .port = port, .host_epoch = EPOCH, .wake = on_wake};
	assert_int_equal(bulk_create(&b, &c, req, NULL), 0);
	peer = accept(listener, NULL, NULL);
	struct timeval t = {.tv_sec = 5};
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	frame_reader_init(&heard, heard_buf, sizeof heard_buf);
	spin();
	if (port) {
		char line[16];
		assert_int_equal(read(peer, line, sizeof line), 13);
		assert_memory_equal(line, "CONNECT 1000\n", 13);
		say("OK 5", 4);
		spin();
		say("\n", 1);
		spin();
	}
	struct frame f = hear(FRAME_HELLO);
	Tenon__Hello *m =
		tenon__hello__unpack(NULL, f.len - FRAME_HELLO_PREFIX, f.payload + FRAME_HELLO_PREFIX);
	assert_int_equal(m->role, TENON__ROLE__ROLE_BULK);
	assert_int_equal(m->host_epoch, EPOCH);
	tenon__hello__free_unpacked(m, NULL);
	f = hear(FRAME_REQ); /* before our HELLO: it saves a round trip */
	assert_int_equal(f.stream, 1);
	Tenon__BulkRequest *got = tenon__bulk_request__unpack(NULL, f.len, f.payload);
	assert_int_equal(got->op_case, req->op_case);
	tenon__bulk_request__free_unpacked(got, NULL);
	say_hello();
}

static void ask_for(Tenon__BulkRequest__OpCase op)
{
	static Tenon__Where at;
	static Tenon__ReadFile read_file;
	static Tenon__TarIn tar_in;
	static Tenon__ListDir list;
	static Tenon__Connect connect_to;
	static Tenon__Stat stat_file;
	tenon__where__init(&at);
	at.path = (ProtobufCBinaryData){4, (uint8_t *)"/etc"};
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = op;
	switch (op) {
	case TENON__BULK_REQUEST__OP_READ:
		tenon__read_file__init(req.read = &read_file);
		read_file.at = &at;
		break;
	case TENON__BULK_REQUEST__OP_TAR_IN:
		tenon__tar_in__init(req.tar_in = &tar_in);
		tar_in.at = &at;
		break;
	case TENON__BULK_REQUEST__OP_LIST:
		tenon__list_dir__init(req.list = &list);
		list.at = &at;
		break;
	case TENON__BULK_REQUEST__OP_CONNECT:
		tenon__connect__init(req.connect = &connect_to);
		break;
	default:
		tenon__stat__init(req.stat = &stat_file);
		stat_file.at = &at;
	}
	ask(&req, 0);
}

static void say_done(void)
{
	uint8_t buf[64];
	Tenon__Done done = TENON__DONE__INIT;
	Tenon__BulkResponse m = TENON__BULK_RESPONSE__INIT;
	m.result_case = TENON__BULK_RESPONSE__RESULT_DONE;
	m.done = &done;
	say_frame(FRAME_RSP, 1, 0, buf, tenon__bulk_response__pack(&m, buf));
}

static void say_data(enum frame_channel c, uint64_t offset, const void *data, size_t len)
{
	uint8_t head[FRAME_DATA_HEAD];
	frame_put_data_head(head, 1, c, offset, len);
	say(head, sizeof head);
	say(data, len);
}

static void say_eof(enum frame_channel c, uint64_t total)
{
	uint8_t frame[FRAME_SMALL_MAX];
	say(frame, frame_put_eof(frame, 1, c, total));
}

static void say_error(uint8_t type, Tenon__Code code, const char *where)
{
	uint8_t buf[256];
	Tenon__Error m = TENON__ERROR__INIT;
	m.code = code;
	m.errnum = ENOSPC;
	m.path = (ProtobufCBinaryData){strlen(where), (uint8_t *)where};
	if (type != FRAME_RSP) {
		say_frame(type, type == FRAME_GOAWAY ? 0 : 1, 0, buf, tenon__error__pack(&m, buf));
		return;
	}
	Tenon__BulkResponse r = TENON__BULK_RESPONSE__INIT;
	r.error = &m;
	say_frame(type, 1, 0, buf, tenon__bulk_response__pack(&r, buf));
}

static struct bulk_item item;

/* The next item, which must come. */
static enum bulk_kind next(size_t max)
{
	for (int i = 0; i < 1000; i++) {
		bulk_next(b, max, &item);
		if (item.kind != BULK_WAIT)
			break;
		unsigned before = wakes;
		for (int turn = 0; turn < 100 && wakes == before; turn++)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	return item.kind;
}

static void test_a_file_comes_in_pieces(void **state)
{
	(void)state;
	ask_for(TENON__BULK_REQUEST__OP_READ);
	say_done();
	say_data(CHANNEL_STDOUT, 0, "hello", 5);
	say_data(CHANNEL_STDOUT, 5, " world", 6);
	say_eof(CHANNEL_STDOUT, 11);
	assert_int_equal(next(3), BULK_ANSWER);
	assert_int_equal(item.answer->result_case, TENON__BULK_RESPONSE__RESULT_DONE);
	char got[32] = "";
	while (next(3) == BULK_DATA) {
		assert_true(item.len <= 3);
		strncat(got, (const char *)item.data, item.len);
	}
	assert_string_equal(got, "hello world");
	assert_int_equal(item.kind, BULK_END);
	assert_int_equal(item.total, 11);
	hang_up();
	spin();
	assert_int_equal(next(3), BULK_END); /* what was whole stays so */
}

static uint64_t poured; /* bytes of DATA, whole frames */
static size_t poured_part;

/* As much of an endless file as the socket takes, or of the frame that was begun; false if it takes none. */
static bool pour(void)
{
	static uint8_t frame[FRAME_DATA_HEAD + FRAME_DATA_MAX];
	bool moved = false, finish = poured_part > 0;
	while (!finish || poured_part > 0) {
		frame_put_data_head(frame, 1, CHANNEL_STDOUT, poured, FRAME_DATA_MAX);
		ssize_t n = send(peer, frame + poured_part, sizeof frame - poured_part,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return moved;
		moved = true;
		poured_part += (size_t)n;
		if (poured_part == sizeof frame) {
			poured_part = 0;
			poured += FRAME_DATA_MAX;
		}
		assert_true(poured < 16u << 20);
	}
	return moved;
}

/* Nobody asks: the worker's socket fills, and no memory of ours does. */
static void test_the_agent_waits_for_the_owner(void **state)
{
	(void)state;
	ask_for(TENON__BULK_REQUEST__OP_READ);
	say_done();
	assert_int_equal(next(1), BULK_ANSWER);
	poured = poured_part = 0;
	while (pour() && poured_part > 0)
		spin();
	uint64_t got = 0;
	while (poured_part > 0) { /* the rest of the frame that did not fit */
		assert_int_equal(next(100), BULK_DATA);
		got += item.len;
		pour();
	}
	say_eof(CHANNEL_STDOUT, poured);
	while (next(1 << 20) == BULK_DATA)
		got += item.len;
	assert_int_equal(item.kind, BULK_END);
	assert_int_equal(got, poured);
}

static void test_bytes_go_up_with_backpressure(void **state)
{
	(void)state;
	static uint8_t piece[100000];
	ask_for(TENON__BULK_REQUEST__OP_TAR_IN);
	bulk_next(b, 1, &item);
	assert_int_equal(bulk_room(b), 0); /* not before the answer */
	say_done();
	assert_int_equal(next(1), BULK_ANSWER);
	uint64_t sent = 0;
	size_t room;
	while ((room = bulk_room(b)) > 0) {
		size_t n = room < sizeof piece ? room : sizeof piece;
		memset(piece, (int)(sent & 0xff), n);
		bulk_send(b, piece, n);
		sent += n;
		assert_true(sent < 64u << 20);
	}
	unsigned before = wakes;
	uint64_t got = 0;
	bool sent_end = false;
	for (bool end = false; !end;) {
		struct frame f;
		struct err e;
		int r = frame_reader_next(&heard, &f, &e);
		assert_true(r >= 0);
		if (r == 0) {
			uv_run(&loop, UV_RUN_NOWAIT);
			if (wakes > before && !sent_end) {
				assert_true(bulk_room(b) > 0);
				bulk_send_end(b);
				sent_end = true;
			}
			assert_true(frame_reader_fill(&heard, peer) > 0);
			continue;
		}
		size_t len = 0;
		assert_int_equal(frame_channel(&f), CHANNEL_STDIN);
		assert_int_equal(frame_offset(&f), f.type == FRAME_EOF ? sent : got);
		if (f.type == FRAME_DATA)
			frame_data(&f, &len);
		got += len;
		end = f.type == FRAME_EOF;
	}
	assert_int_equal(got, sent);
	say_eof(CHANNEL_STDOUT, sent - 10);
	assert_int_equal(next(1), BULK_END);
	assert_int_equal(item.total, sent - 10);
}

static void test_why_it_failed_is_told(void **state)
{
	(void)state;
	static const uint8_t types[] = {FRAME_RSP, FRAME_RESET, FRAME_GOAWAY};
	for (unsigned i = 0; i < sizeof types; i++) {
		ask_for(TENON__BULK_REQUEST__OP_TAR_IN);
		if (types[i] == FRAME_RESET) {
			say_done();
			assert_int_equal(next(1), BULK_ANSWER);
			bulk_send(b, "abc", 3);
		}
		say_error(types[i], TENON__CODE__CODE_FILE_FAILED, "/full");
		hang_up();
		assert_int_equal(next(1), BULK_FAILED);
		assert_non_null(item.error);
		assert_int_equal(item.error->errnum, ENOSPC);
		assert_int_equal(item.error->path.len, 5);
		assert_int_equal(next(1), BULK_FAILED);
		bulk_destroy(b);
		b = NULL;
	}
}

static void test_a_tunnel_ends_by_halves(void **state)
{
	(void)state;
	ask_for(TENON__BULK_REQUEST__OP_CONNECT);
	say_done();
	say_data(CHANNEL_STDOUT, 0, "bye", 3);
	say_eof(CHANNEL_STDOUT, 3);
	assert_int_equal(next(9), BULK_ANSWER);
	assert_int_equal(next(9), BULK_DATA);
	assert_int_equal(next(9), BULK_END);
	bulk_next(b, 9, &item);
	assert_int_equal(item.kind, BULK_WAIT);
	bulk_send(b, "still", 5);
	struct frame f = hear(FRAME_DATA);
	assert_int_equal(frame_offset(&f), 0);
	say_error(FRAME_RESET, TENON__CODE__CODE_FILE_FAILED, "");
	assert_int_equal(next(9), BULK_FAILED);
	assert_non_null(item.error);
}

static void test_through_the_vmm_and_unary(void **state)
{
	(void)state;
	Tenon__Where at = TENON__WHERE__INIT;
	Tenon__Stat stat_file = TENON__STAT__INIT;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_STAT;
	req.stat = &stat_file;
	stat_file.at = &at;
	ask(&req, 1000);
	uint8_t buf[64];
	Tenon__FileInfo info = TENON__FILE_INFO__INIT;
	Tenon__BulkResponse m = TENON__BULK_RESPONSE__INIT;
	info.size = 42;
	m.result_case = TENON__BULK_RESPONSE__RESULT_FILE;
	m.file = &info;
	say_frame(FRAME_RSP, 1, 0, buf, tenon__bulk_response__pack(&m, buf));
	assert_int_equal(next(1), BULK_ANSWER);
	assert_int_equal(item.answer->file->size, 42);
	assert_int_equal(next(1), BULK_END);
}

static void test_an_event_in_pieces(void **state)
{
	(void)state;
	static uint8_t packed[100000];
	static char name[90000];
	memset(name, 'n', sizeof name);
	ask_for(TENON__BULK_REQUEST__OP_LIST);
	Tenon__FileInfo info = TENON__FILE_INFO__INIT, *infos = &info;
	Tenon__FileList list = TENON__FILE_LIST__INIT;
	Tenon__BulkEvent m = TENON__BULK_EVENT__INIT;
	info.name = (ProtobufCBinaryData){sizeof name, (uint8_t *)name};
	list.files = &infos;
	list.n_files = 1;
	m.kind_case = TENON__BULK_EVENT__KIND_FILES;
	m.files = &list;
	size_t len = tenon__bulk_event__pack(&m, packed);
	say_done();
	say_frame(FRAME_EVENT, 1, FRAME_MORE, packed, 60000);
	assert_int_equal(next(1), BULK_ANSWER);
	say_frame(FRAME_EVENT, 1, 0, packed + 60000, len - 60000);
	say_eof(CHANNEL_STDOUT, 1);
	assert_int_equal(next(1), BULK_EVENT);
	assert_int_equal(item.event->files->files[0]->name.len, sizeof name);
	assert_int_equal(next(1), BULK_END);
	assert_int_equal(item.total, 1);
}

static void lie_early_data(void)
{
	say_data(CHANNEL_STDOUT, 0, "x", 1);
}
static void lie_hole(void)
{
	say_done();
	say_data(CHANNEL_STDOUT, 1, "x", 1);
}
static void lie_repeat(void)
{
	say_done();
	say_data(CHANNEL_STDOUT, 0, "x", 1);
	say_data(CHANNEL_STDOUT, 0, "x", 1);
}
static void lie_channel(void)
{
	say_done();
	say_data(CHANNEL_STDERR, 0, "x", 1);
}
static void lie_total(void)
{
	say_done();
	say_data(CHANNEL_STDOUT, 0, "x", 1);
	say_eof(CHANNEL_STDOUT, 2);
}
static void lie_event(void)
{
	say_done();
	say_frame(FRAME_EVENT, 1, 0, "", 0);
}
static void lie_second_answer(void)
{
	say_done();
	say_done();
}
static void lie_no_result(void)
{
	say_frame(FRAME_RSP, 1, 0, "", 0);
}
static void lie_stream(void)
{
	say_done();
	uint8_t frame[FRAME_SMALL_MAX];
	say(frame, frame_put_eof(frame, 3, CHANNEL_STDOUT, 0));
}
static void lie_ping(void)
{
	uint8_t frame[FRAME_SMALL_MAX], body[8] = {0};
	say(frame, frame_put_ping(frame, FRAME_PING, body));
}
static void lie_garbage(void)
{
	say("all is well, believe me", 23);
}
static void lie_huge(void)
{
	say_frame(FRAME_RSP, 1, FRAME_MORE, heard_buf, FRAME_PAYLOAD_MAX);
	say_frame(FRAME_RSP, 1, FRAME_MORE, heard_buf, FRAME_PAYLOAD_MAX);
	say_frame(FRAME_RSP, 1, FRAME_MORE, heard_buf, FRAME_PAYLOAD_MAX);
	say_frame(FRAME_RSP, 1, FRAME_MORE, heard_buf, FRAME_PAYLOAD_MAX);
	say_frame(FRAME_RSP, 1, 0, heard_buf, FRAME_PAYLOAD_MAX);
}
static void lie_cut(void)
{
	say_done();
	say_data(CHANNEL_STDOUT, 0, "x", 1);
	hang_up();
}

static void test_lies_are_found(void **state)
{
	(void)state;
	static void (*const lies[])(void) = {lie_early_data, lie_hole,  lie_repeat,        lie_channel,
					     lie_total,      lie_event, lie_second_answer, lie_no_result,
					     lie_stream,     lie_ping,  lie_garbage,       lie_cut};
	for (unsigned i = 0; i < sizeof lies / sizeof *lies; i++) {
		ask_for(TENON__BULK_REQUEST__OP_READ);
		lies[i]();
		while (next(9) == BULK_ANSWER || item.kind == BULK_DATA)
			;
		assert_int_equal(item.kind, BULK_FAILED);
		assert_null(item.error);
		assert_int_equal(item.why->errnum, lies[i] == lie_cut ? ECONNRESET : EPROTO);
		bulk_destroy(b);
		b = NULL;
		hang_up();
	}
	ask_for(TENON__BULK_REQUEST__OP_READ);
	int big = 1 << 20;
	setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
	lie_huge();
	assert_int_equal(next(9), BULK_FAILED);
	assert_int_equal(item.why->errnum, EMSGSIZE);
}

/* An upload that the agent calls done before it was sent. */
static void test_done_too_early_is_a_lie(void **state)
{
	(void)state;
	ask_for(TENON__BULK_REQUEST__OP_TAR_IN);
	say_done();
	assert_int_equal(next(1), BULK_ANSWER);
	bulk_send(b, "abc", 3);
	say_eof(CHANNEL_STDOUT, 3);
	assert_int_equal(next(1), BULK_FAILED);
	assert_int_equal(item.why->errnum, EPROTO);
}

/* Whom nobody answers: each time within its own deadline, and the owner is told why. */
static void test_deadlines(void **state)
{
	(void)state;
	static const struct {
		Tenon__BulkRequest__OpCase op;
		bool answered;
		unsigned ms;
	} silent[] = {
		{TENON__BULK_REQUEST__OP_READ, false, BULK_ANSWER_MS},
		{TENON__BULK_REQUEST__OP_TAR_IN, false, BULK_ANSWER_MS},
		{TENON__BULK_REQUEST__OP_STAT, false, BULK_SILENCE_MS}, /* it is done when it answers */
		{TENON__BULK_REQUEST__OP_READ, true, BULK_SILENCE_MS},
	};
	for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
		ask_for(silent[i].op);
		assert_int_equal(next(9), BULK_WAIT);
		if (silent[i].answered) {
			say_done();
			assert_int_equal(next(9), BULK_ANSWER);
			assert_int_equal(next(9), BULK_WAIT);
		}
		wakes = 0;
		wait_ms(silent[i].ms - 5000);
		assert_int_equal(next(9), BULK_WAIT);
		wait_ms(10000);
		assert_true(wakes > 0);
		assert_int_equal(next(9), BULK_FAILED);
		assert_int_equal(item.why->errnum, ETIMEDOUT);
		bulk_destroy(b);
		b = NULL;
		hang_up();
	}
	/* A tunnel may be quiet as long as it likes. */
	ask_for(TENON__BULK_REQUEST__OP_CONNECT);
	say_done();
	assert_int_equal(next(9), BULK_ANSWER);
	assert_int_equal(next(9), BULK_WAIT);
	wait_ms(10 * BULK_SILENCE_MS);
	assert_int_equal(next(9), BULK_WAIT);
}

static void test_no_hello(void **state)
{
	(void)state;
	Tenon__GetMetrics get = TENON__GET_METRICS__INIT;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_METRICS;
	req.metrics = &get;
	struct bulk_config c = {.loop = &loop, .socket_path = path, .host_epoch = EPOCH, .wake = on_wake};
	assert_int_equal(bulk_create(&b, &c, &req, NULL), 0);
	assert_int_equal(next(9), BULK_WAIT);
	wait_ms(BULK_HELLO_MS - 5000);
	assert_int_equal(next(9), BULK_WAIT);
	wait_ms(10000);
	assert_int_equal(next(9), BULK_FAILED);
	assert_int_equal(item.why->errnum, ETIMEDOUT);
}

#define with_rig(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_rig(test_a_file_comes_in_pieces),
		with_rig(test_the_agent_waits_for_the_owner),
		with_rig(test_bytes_go_up_with_backpressure),
		with_rig(test_why_it_failed_is_told),
		with_rig(test_a_tunnel_ends_by_halves),
		with_rig(test_through_the_vmm_and_unary),
		with_rig(test_an_event_in_pieces),
		with_rig(test_lies_are_found),
		with_rig(test_done_too_early_is_a_lie),
		with_rig(test_deadlines),
		with_rig(test_no_hello),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
