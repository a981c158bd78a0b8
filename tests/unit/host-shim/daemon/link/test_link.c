/* The link against a scripted agent that says all the wrong things. */
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

#include "host-shim/daemon/link/link.h"
#include "later.h"

static uv_loop_t loop;
static char path[64];
static int listener = -1, peer = -1;
static struct link *l;
static struct err down_why;
static unsigned ups, downs, responses, frames, events, losts;
static struct link_stream stream;

static void on_up(void *arg, const Tenon__Hello *hello)
{
	(void)arg;
	assert_int_equal(hello->boot_id.len, 16);
	ups++;
}

static void on_down(void *arg, const struct err *why)
{
	(void)arg;
	down_why = *why;
	downs++;
}

static int on_response(struct link_stream *s, const Tenon__Response *m, struct err *e)
{
	(void)s;
	(void)m;
	(void)e;
	responses++;
	return 0;
}

static int on_frame(struct link_stream *s, const struct frame *f, struct err *e)
{
	(void)s;
	(void)f;
	(void)e;
	frames++;
	return 0;
}

static int on_event(struct link_stream *s, const Tenon__Event *m, struct err *e)
{
	(void)s;
	(void)m;
	(void)e;
	events++;
	return 0;
}

static void on_lost(struct link_stream *s, const struct err *why)
{
	(void)why;
	assert_int_equal(s->id, 0);
	losts++;
}

static int setup(void **state)
{
	(void)state;
	ups = downs = responses = frames = events = losts = 0;
	down_why = (struct err){0};
	stream = (struct link_stream){on_response, on_frame, on_event, on_lost, 0, false, {0}};
	uv_loop_init(&loop);
	strcpy(path, "/tmp/tenon-link-XXXXXX");
	if (!mkdtemp(path))
		return -1;
	strcat(path, "/s");
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	strcpy(at.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	return bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 8) < 0;
}

static int teardown(void **state)
{
	(void)state;
	link_destroy(l);
	l = NULL;
	uv_run(&loop, UV_RUN_DEFAULT);
	close(listener);
	if (peer >= 0)
		close(peer);
	peer = -1;
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	return uv_loop_close(&loop);
}

static void spin(void)
{
	for (int i = 0; i < 10; i++)
		uv_run(&loop, UV_RUN_NOWAIT);
}

static void wait_ms(unsigned ms)
{
	later_ms += ms;
	spin();
}

static void dial(unsigned port)
{
	struct link_config c = {.loop = &loop,
				.socket_path = path,
				.port = port,
				.host_epoch = 7,
				.up = on_up,
				.down = on_down};
	assert_int_equal(link_create(&l, &c, NULL), 0);
	peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	struct timeval t = {.tv_sec = 5};
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	spin();
}

static void say(const void *data, size_t len)
{
	assert_int_equal(write(peer, data, len), len);
}

static void say_frame(uint8_t type, uint32_t id, uint8_t flags, const void *payload, uint32_t len)
{
	uint8_t header[FRAME_HEADER_SIZE];
	frame_put_header(header, &(struct frame){.len = len, .stream = id, .type = type, .flags = flags});
	say(header, sizeof header);
	if (len)
		say(payload, len);
}

static struct frame hear(uint8_t *buf)
{
	struct frame f;
	assert_int_equal(recv(peer, buf, FRAME_HEADER_SIZE, MSG_WAITALL), FRAME_HEADER_SIZE);
	uint32_t len = wire_get_u32(buf);
	if (len)
		assert_int_equal(recv(peer, buf + FRAME_HEADER_SIZE, len, MSG_WAITALL), len);
	assert_true(frame_decode(buf, FRAME_HEADER_SIZE + len, &f, NULL) > 0);
	return f;
}

static size_t pack_hello(uint8_t *out, uint64_t epoch, size_t boot_id_len)
{
	static uint8_t boot[16] = "boot";
	Tenon__Hello m = TENON__HELLO__INIT;
	m.boot_id = (ProtobufCBinaryData){boot_id_len, boot};
	m.host_epoch = epoch;
	m.configured = true;
	frame_put_hello_prefix(out);
	return FRAME_HELLO_PREFIX + tenon__hello__pack(&m, out + FRAME_HELLO_PREFIX);
}

static void shake(void)
{
	uint8_t buf[FRAME_SIZE_MAX];
	struct frame f;
	dial(0);
	f = hear(buf);
	assert_int_equal(f.type, FRAME_HELLO);
	size_t n = pack_hello(buf, 3, 16);
	say_frame(FRAME_HELLO, 0, 0, buf, (uint32_t)n);
	spin();
	assert_int_equal(ups, 1);
}

static void open_stream(bool answer)
{
	uint8_t buf[FRAME_SIZE_MAX];
	Tenon__ListExecs list = TENON__LIST_EXECS__INIT;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_LIST_EXECS;
	req.list_execs = &list;
	assert_int_equal(link_open(l, &stream, &req, NULL), 0);
	spin();
	struct frame f = hear(buf);
	assert_int_equal(f.type, FRAME_REQ);
	if (!answer)
		return;
	Tenon__Done done = TENON__DONE__INIT;
	Tenon__Response m = TENON__RESPONSE__INIT;
	m.result_case = TENON__RESPONSE__RESULT_DONE;
	m.done = &done;
	size_t n = tenon__response__pack(&m, buf);
	say_frame(FRAME_RSP, f.stream, 0, buf, (uint32_t)n);
	spin();
	assert_int_equal(responses, 1);
}

static void test_greeting_and_hello_byte_by_byte(void **state)
{
	(void)state;
	uint8_t buf[FRAME_SIZE_MAX];
	char line[13] = "";
	dial(1000);
	assert_int_equal(recv(peer, line, 13, MSG_WAITALL), 13);
	assert_memory_equal(line, "CONNECT 1000\n", 13);
	for (const char *p = "OK 1073741824\n"; *p; p++) {
		say(p, 1);
		spin();
	}
	struct frame f = hear(buf);
	assert_int_equal(f.type, FRAME_HELLO);
	Tenon__Hello *m = tenon__hello__unpack(NULL, f.len - 8, f.payload + 8);
	assert_int_equal(m->host_epoch, 7);
	assert_int_equal(m->role, TENON__ROLE__ROLE_MAIN);
	tenon__hello__free_unpacked(m, NULL);
	size_t n = pack_hello(buf + FRAME_HEADER_SIZE, 3, 16);
	frame_put_header(buf, &(struct frame){.len = (uint32_t)n, .type = FRAME_HELLO});
	for (size_t i = 0; i < n + FRAME_HEADER_SIZE; i++) {
		say(buf + i, 1);
		spin();
	}
	assert_int_equal(ups, 1);
	assert_int_equal(downs, 0);
}

static void test_wrong_greetings(void **state)
{
	const char *const wrong[] = {
		"NO\n", "OK\n", "OKAY 1\n",
		"OK 11111111111111111111111111111111111111111111111111111111111111111111111"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		dial(1000);
		say(wrong[i], strlen(wrong[i]));
		spin();
		assert_int_equal(downs, 1);
		assert_int_equal(down_why.errnum, EPROTO);
		teardown(state);
		setup(state);
	}
	dial(1000);
	close(peer);
	peer = -1;
	spin();
	assert_int_equal(down_why.errnum, ECONNRESET);
}

static void test_hellos_that_are_refused(void **state)
{
	uint8_t buf[FRAME_SIZE_MAX];
	for (int i = 0; i < 5; i++) {
		dial(0);
		hear(buf);
		size_t n = pack_hello(buf, i == 0 ? 8 : 3, i == 1 ? 15 : 16);
		if (i == 2)
			buf[0] = 'X';
		if (i == 3)
			memset(buf + 8, 0xff, n - 8);
		if (i == 4)
			say_frame(FRAME_PING, 0, 0, "12345678", 8);
		else
			say_frame(FRAME_HELLO, 0, 0, buf, (uint32_t)n);
		spin();
		assert_int_equal(ups, 0);
		assert_int_equal(downs, 1);
		assert_int_equal(down_why.errnum, i == 0 ? ESTALE : EPROTO);
		if (i == 0)
			assert_int_equal(link_agent_epoch(l), 8);
		teardown(state);
		setup(state);
	}
}

/* Each of these, on a link with one answered stream (1), ends it: with GOAWAY, and the stream told. */
static void test_malformed_frames(void **state)
{
	static const struct {
		uint8_t type, flags;
		uint32_t stream, len;
		uint64_t a, b;
	} bad[] = {
		{FRAME_HELLO, 0, 0, 8, 0, 0},         /* a second HELLO */
		{FRAME_REQ, 0, 1, 2, 0, 0},           /* the agent asks nothing */
		{FRAME_DATA, 0, 1, 9, 0, 0},          /* stdin is ours */
		{FRAME_DATA, 3, 1, 9, 0, 0},          /* channel 3 */
		{FRAME_DATA, 1, 1, 8, 0, 0},          /* no byte */
		{FRAME_DATA, 1, 3, 9, 0, 0},          /* never opened */
		{FRAME_DATA, 1, 2, 9, 0, 0},          /* even */
		{FRAME_DATA, 1, 1, 9, UINT64_MAX, 0}, /* beyond 2^62 */
		{FRAME_DATA, 0x11, 1, 9, 0, 0},       /* a flag that is none */
		{FRAME_CREDIT, 1, 1, 16, 0, 0},       /* credit for what it sends itself */
		{FRAME_CREDIT, 0, 1, 16, 5, 4},
		{FRAME_CREDIT, 0, 1, 15, 0, 0},
		{FRAME_GAP, 1, 1, 16, 4, 4},
		{FRAME_GAP, 0, 1, 16, 0, 4},
		{FRAME_EOF, 1, 1, 9, 0, 0},
		{FRAME_RSP, 0, 1, 0, 0, 0},            /* a second answer */
		{FRAME_RSP, 0x40, 1, 0, 0, 0},         /* an empty piece */
		{FRAME_EVENT, 0, 1, 4, UINT64_MAX, 0}, /* not a message */
		{FRAME_RESET, 0, 0, 0, 0, 0},
		{FRAME_PING, 0, 0, 7, 0, 0},
		{0, 0, 0, 0, 0, 0},
		{99, 0, 0, 0, 0, 0}, /* unknown, and not optional */
		{FRAME_DATA, 1, 1, FRAME_PAYLOAD_MAX + 1, 0, 0},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		uint8_t payload[16], buf[FRAME_SIZE_MAX];
		shake();
		open_stream(true);
		wire_put_u64(payload, bad[i].a);
		wire_put_u64(payload + 8, bad[i].b);
		uint8_t header[FRAME_HEADER_SIZE];
		frame_put_header(header, &(struct frame){.len = bad[i].len,
							 .stream = bad[i].stream,
							 .type = bad[i].type,
							 .flags = bad[i].flags});
		say(header, sizeof header);
		say(payload, bad[i].len < 16 ? bad[i].len : 16);
		spin();
		assert_int_equal(downs, 1);
		assert_int_equal(down_why.errnum, EPROTO);
		assert_int_equal(losts, 1);
		assert_int_equal(hear(buf).type, FRAME_GOAWAY);
		teardown(state);
		setup(state);
	}
}

static void test_a_message_that_unpacks_too_large(void **state)
{
	(void)state;
	static uint8_t bomb[MESSAGE_FROM_AGENT_MAX];
	shake();
	open_stream(false);
	/* ExecList (field 5) of 60,000 empty ExecStates: 120 KB here, a dozen MB there. */
	size_t n = 0, inner = 120000;
	bomb[n++] = 5 << 3 | 2;
	for (size_t v = inner; v; v >>= 7)
		bomb[n++] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
	for (size_t i = 0; i < inner; i += 2) {
		bomb[n++] = 1 << 3 | 2;
		bomb[n++] = 0;
	}
	say_frame(FRAME_RSP, 1, FRAME_MORE, bomb, 65536);
	spin();
	say_frame(FRAME_RSP, 1, 0, bomb + 65536, (uint32_t)(n - 65536));
	spin();
	assert_int_equal(downs, 1);
	assert_int_equal(responses, 0);
	assert_int_equal(losts, 1);
}

static void test_data_before_the_answer(void **state)
{
	(void)state;
	shake();
	open_stream(false);
	say_frame(FRAME_DATA, 1, 1, "\0\0\0\0\0\0\0\0x", 9);
	spin();
	assert_int_equal(downs, 1);
	assert_int_equal(frames, 0);
}

static void test_what_is_allowed(void **state)
{
	(void)state;
	uint8_t buf[FRAME_SIZE_MAX];
	shake();
	open_stream(true);
	say_frame(99, 0, FRAME_OPTIONAL, "whatever", 8);
	say_frame(FRAME_DATA, 1, 1 | FRAME_OPTIONAL, "\0\0\0\0\0\0\0\0x", 9);
	say_frame(FRAME_EOF, 1, 0, "\0\0\0\0\0\0\0\0", 8);
	say_frame(FRAME_EVENT, 0, 0, NULL, 0);
	say_frame(FRAME_PING, 0, 0, "12345678", 8);
	spin();
	assert_int_equal(downs, 0);
	assert_int_equal(frames, 2);
	struct frame f = hear(buf);
	assert_int_equal(f.type, FRAME_PONG);
	assert_memory_equal(f.payload, "12345678", 8);

	link_stream_close(l, &stream, true);
	spin();
	assert_int_equal(hear(buf).type, FRAME_RESET);
	say_frame(FRAME_DATA, 1, 1, "\0\0\0\0\0\0\0\0x", 9); /* crossed on the wire */
	spin();
	assert_int_equal(frames, 2);
	assert_int_equal(downs, 0);
}

static void test_reset_and_goaway(void **state)
{
	(void)state;
	uint8_t buf[64];
	Tenon__Error m = TENON__ERROR__INIT;
	shake();
	open_stream(true);
	m.code = TENON__CODE__CODE_DETACHED;
	size_t n = tenon__error__pack(&m, buf);
	say_frame(FRAME_RESET, 1, 0, buf, (uint32_t)n);
	spin();
	assert_int_equal(losts, 1);
	assert_int_equal(downs, 0);
	m.code = TENON__CODE__CODE_FENCED;
	n = tenon__error__pack(&m, buf);
	say_frame(FRAME_GOAWAY, 0, 0, buf, (uint32_t)n);
	spin();
	assert_int_equal(downs, 1);
	assert_int_equal(down_why.errnum, ESTALE);
}

/* Silence is found by the loop's clock, which the test turns on by waiting; 20 s would be long, so the peer
 * stops reading instead: what is queued for it is bounded. */
static void test_a_peer_that_does_not_read(void **state)
{
	(void)state;
	static uint8_t block[FRAME_DATA_MAX];
	shake();
	open_stream(true);
	size_t sent = 0;
	while (downs == 0 && sent < 4 * LINK_QUEUE_MAX) {
		link_send_data(l, &stream, CHANNEL_STDIN, sent, block, sizeof block);
		sent += sizeof block;
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	spin();
	assert_int_equal(downs, 1);
	assert_int_equal(down_why.errnum, ENOBUFS);
	assert_true(sent < 2 * LINK_QUEUE_MAX);
	assert_int_equal(losts, 1);
}

/* Silence is asked about, the answer is a sign of life, and without one the link ends. */
static void test_silence(void **state)
{
	(void)state;
	uint8_t buf[64];
	shake();
	open_stream(true);
	wait_ms(LINK_PING_MS - 2000);
	say_frame(FRAME_EVENT, 0, 0, NULL, 0);
	spin();
	wait_ms(LINK_PING_MS - 2000); /* since then it is not so long */
	assert_int_equal(recv(peer, buf, sizeof buf, MSG_DONTWAIT), -1);
	for (int i = 0; i < 3; i++) {
		wait_ms(LINK_PING_MS);
		struct frame f = hear(buf);
		assert_int_equal(f.type, FRAME_PING);
		assert_int_equal(f.len, 8);
		wait_ms(LINK_SILENCE_MS - 2000);
		say_frame(FRAME_PONG, 0, 0, f.payload, 8);
		spin();
		assert_int_equal(downs, 0);
	}
	wait_ms(LINK_PING_MS);
	assert_int_equal(hear(buf).type, FRAME_PING);
	wait_ms(LINK_SILENCE_MS - 2000);
	assert_int_equal(downs, 0);
	wait_ms(4000);
	assert_int_equal(downs, 1);
	assert_int_equal(down_why.errnum, ETIMEDOUT);
	assert_int_equal(losts, 1);
}

static void test_no_hello(void **state)
{
	(void)state;
	dial(0);
	wait_ms(LINK_HELLO_MS - 2000);
	assert_int_equal(downs, 0);
	wait_ms(4000);
	assert_int_equal(downs, 1);
	assert_int_equal(ups, 0);
	assert_int_equal(down_why.errnum, ETIMEDOUT);
}

static void test_nobody_there(void **state)
{
	(void)state;
	struct link_config c = {.loop = &loop, .socket_path = "/nonexistent/vsock.sock", .down = on_down};
	struct err e;
	assert_int_equal(link_create(&l, &c, &e), -ENOENT);
	assert_int_equal(downs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_greeting_and_hello_byte_by_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_greetings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hellos_that_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_message_that_unpacks_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data_before_the_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_and_goaway, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_peer_that_does_not_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_hello, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
