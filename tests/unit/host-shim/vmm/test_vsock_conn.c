#include "host-shim/vmm/vsock_conn.h"

#include "proto/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

static struct {
	struct loop loop;
	struct conn_owner owner;
	struct conn *c;
	int client;
	struct vsock_hdr hdr; /* the last packet for the guest */
	uint8_t payload[1024];
} t;

static void changed(struct conn_owner *owner, struct conn *c)
{
	(void)owner;
	(void)c;
}

static void open_conn(bool accepting)
{
	int pair[2], small = 4096;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	t.client = pair[0];
	t.c = conn_create(&t.owner, pair[1], 10, 20, accepting);
	assert_non_null(t.c);
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof t);
	signal(SIGPIPE, SIG_IGN);
	t.client = -1;
	t.owner = (struct conn_owner){.loop = &t.loop, .guest_cid = 3, .changed = changed};
	return loop_init(&t.loop);
}

static int teardown(void **state)
{
	(void)state;
	conn_destroy(t.c);
	close_fd(&t.client);
	loop_finish(&t.loop);
	return 0;
}

static void turn(void)
{
	assert_int_equal(loop_turn(&t.loop, 0), 0);
}

static void guest(enum vsock_op op, uint32_t flags, const void *data, uint32_t len)
{
	struct vsock_hdr hdr = {.op = (uint16_t)op, .flags = flags, .len = len, .buf_alloc = 1000};
	struct iovec iov = {(void *)data, len};
	hdr.fwd_cnt = t.c->credit.peer_fwd_cnt;
	conn_receive(t.c, &hdr, &iov, 1);
}

static bool next(void)
{
	turn();
	struct iovec iov = {t.payload, sizeof t.payload};
	return conn_has_packet(t.c) && conn_next_packet(t.c, &t.hdr, &iov, 1);
}

static void expect(enum vsock_op op)
{
	assert_true(next());
	assert_int_equal(t.hdr.op, op);
}

static void expect_client(const char *text)
{
	char buf[64];
	ssize_t n = recv(t.client, buf, sizeof buf, 0);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, (size_t)n);
}

static void accept_guest(void)
{
	open_conn(true);
	expect(VSOCK_OP_RESPONSE);
	guest(VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
}

static void client_dials(void **state)
{
	(void)state;
	open_conn(false);
	send(t.client, "early", 5, 0);
	expect(VSOCK_OP_REQUEST);
	assert_int_equal(t.hdr.src_port, 10);
	assert_int_equal(t.hdr.dst_port, 20);
	assert_int_equal(t.hdr.buf_alloc, CREDIT_WINDOW);
	assert_false(next()); /* not a byte before the guest has answered */
	guest(VSOCK_OP_RESPONSE, 0, NULL, 0);
	expect_client("OK 10\n");
	expect(VSOCK_OP_RW);
	assert_int_equal(t.hdr.len, 5);
	assert_memory_equal(t.payload, "early", 5);
}

static void guest_refuses(void **state)
{
	(void)state;
	open_conn(false);
	expect(VSOCK_OP_REQUEST);
	guest(VSOCK_OP_RST, 0, NULL, 0);
	assert_int_equal(t.c->state, CONN_GONE);
	expect_client("");
}

static void guest_does_not_answer(void **state)
{
	(void)state;
	open_conn(false);
	expect(VSOCK_OP_REQUEST);
	t.c->deadline.at_ms = 0;
	expect(VSOCK_OP_RST);
	assert_int_equal(t.c->state, CONN_GONE);
	expect_client("");
}

static void an_answer_before_the_question_is_wrong(void **state)
{
	(void)state;
	open_conn(false);
	guest(VSOCK_OP_RESPONSE, 0, NULL, 0);
	expect(VSOCK_OP_RST);
}

static void credit_limits_what_is_sent(void **state)
{
	(void)state;
	static uint8_t big[1500];
	accept_guest();
	send(t.client, big, sizeof big, 0);
	expect(VSOCK_OP_RW);
	assert_int_equal(t.hdr.len, 1000);
	assert_false(next());
	t.c->deadline.at_ms = 0; /* no word from the guest */
	expect(VSOCK_OP_CREDIT_REQUEST);
	assert_false(next());
	t.c->credit.peer_fwd_cnt = 600;
	guest(VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	expect(VSOCK_OP_RW);
	assert_int_equal(t.hdr.len, 500);
}

static void stalled_client_costs_a_window(void **state)
{
	(void)state;
	static uint8_t data[CREDIT_WINDOW], back[CREDIT_WINDOW];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	accept_guest();
	guest(VSOCK_OP_RW, 0, data, CREDIT_WINDOW / 2);
	guest(VSOCK_OP_RW, 0, data + CREDIT_WINDOW / 2, CREDIT_WINDOW / 2 - t.c->credit.fwd_cnt);
	assert_true(t.c->backlog_len > 0);
	/* Reading brings it all, in order, and credit to the guest. */
	size_t want = t.c->credit.rx_cnt, got = 0;
	while (got < want) {
		ssize_t n = recv(t.client, back + got, sizeof back - got, 0);
		if (n > 0)
			got += (size_t)n;
		turn();
	}
	assert_memory_equal(data, back, got);
	assert_null(t.c->backlog);
	expect(VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(t.hdr.fwd_cnt, want);
}

static void more_than_the_window_is_a_reset(void **state)
{
	(void)state;
	static uint8_t data[CREDIT_WINDOW];
	accept_guest();
	guest(VSOCK_OP_RW, 0, data, CREDIT_WINDOW);
	guest(VSOCK_OP_RW, 0, data, CREDIT_WINDOW);
	expect(VSOCK_OP_RST);
	assert_int_equal(t.c->state, CONN_GONE);
}

static void client_half_closes(void **state)
{
	(void)state;
	accept_guest();
	send(t.client, "last", 4, 0);
	shutdown(t.client, SHUT_WR);
	expect(VSOCK_OP_RW);
	expect(VSOCK_OP_SHUTDOWN);
	assert_int_equal(t.hdr.flags, VSOCK_SHUT_SEND);
	guest(VSOCK_OP_RW, 0, "answer", 6);
	expect_client("answer");
	guest(VSOCK_OP_SHUTDOWN, VSOCK_SHUT_BOTH, NULL, 0);
	expect(VSOCK_OP_RST);
	expect_client("");
}

static void client_closes(void **state)
{
	(void)state;
	accept_guest();
	send(t.client, "last", 4, 0);
	close_fd(&t.client);
	expect(VSOCK_OP_RW);
	expect(VSOCK_OP_SHUTDOWN);
	assert_int_equal(t.hdr.flags, VSOCK_SHUT_BOTH);
	assert_int_equal(t.c->state, CONN_CLOSING);
	guest(VSOCK_OP_RW, 0, "crossed", 7);
	assert_int_equal(t.c->state, CONN_CLOSING);
	guest(VSOCK_OP_RST, 0, NULL, 0);
	assert_int_equal(t.c->state, CONN_GONE);
}

static void guest_half_closes(void **state)
{
	(void)state;
	accept_guest();
	guest(VSOCK_OP_RW, 0, "bye", 3);
	guest(VSOCK_OP_SHUTDOWN, VSOCK_SHUT_SEND, NULL, 0);
	expect_client("bye");
	expect_client("");
	send(t.client, "still", 5, 0);
	expect(VSOCK_OP_RW);
	guest(VSOCK_OP_RW, 0, "!", 1); /* it had said it sends no more */
	expect(VSOCK_OP_RST);
}

static void guest_closes_with_bytes_under_way(void **state)
{
	(void)state;
	static uint8_t data[100000], back[sizeof data];
	accept_guest();
	guest(VSOCK_OP_RW, 0, data, sizeof data);
	assert_true(t.c->backlog_len > 0);
	guest(VSOCK_OP_SHUTDOWN, VSOCK_SHUT_BOTH, NULL, 0);
	assert_int_equal(t.c->state, CONN_DRAINING);
	expect(VSOCK_OP_RST); /* the guest does not wait for the client */
	size_t got = 0;
	for (ssize_t n; got < sizeof data;) {
		n = recv(t.client, back, sizeof back, 0);
		if (n > 0)
			got += (size_t)n;
		turn();
	}
	assert_int_equal(t.c->state, CONN_GONE);
	expect_client("");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(client_dials),
		TEST(guest_refuses),
		TEST(guest_does_not_answer),
		TEST(an_answer_before_the_question_is_wrong),
		TEST(credit_limits_what_is_sent),
		TEST(stalled_client_costs_a_window),
		TEST(more_than_the_window_is_a_reset),
		TEST(client_half_closes),
		TEST(client_closes),
		TEST(guest_half_closes),
		TEST(guest_closes_with_bytes_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
