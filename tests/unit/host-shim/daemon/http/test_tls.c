/* The relay, between a client of GnuTLS and whoever has the plain end, both of them here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "certificates.h"
#include "host-shim/daemon/http/tls.h"
#include "proto/cleanup.h"

#define LONG (1u << 20)

static uint8_t *bytes; /* LONG of them, all kinds */

static int setup_group(void **state)
{
	bytes = malloc(LONG);
	for (size_t i = 0; i < LONG; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	return make_folder(state);
}

static int teardown_group(void **state)
{
	free(bytes);
	return remove_folder(state);
}

struct bench {
	uv_loop_t loop;
	struct tls *tls;
	struct tls_conn *conn;
	int client, plain;
	gnutls_session_t session;
	gnutls_certificate_credentials_t none;
};

static int setup(void **state)
{
	struct bench *x = calloc(1, sizeof *x);
	struct err e = {0};
	int pair[2];
	uv_loop_init(&x->loop);
	if (tls_create(&x->tls, &x->loop, cert, key, &e) < 0)
		return -1;
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
	/* Small, so that records are cut anywhere. */
	for (int i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
	x->client = pair[0];
	x->conn = tls_accept(x->tls, pair[1], &x->plain);
	assert_int_equal(tls_conn_socket(x->conn), pair[1]);
	gnutls_init(&x->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	gnutls_certificate_allocate_credentials(&x->none);
	gnutls_credentials_set(x->session, GNUTLS_CRD_CERTIFICATE, x->none);
	gnutls_set_default_priority(x->session);
	gnutls_transport_set_int(x->session, x->client);
	*state = x;
	return 0;
}

static void turn(struct bench *x)
{
	uv_run(&x->loop, UV_RUN_NOWAIT);
}

static int teardown(void **state)
{
	struct bench *x = *state;
	close_fd(&x->client);
	close_fd(&x->plain);
	gnutls_deinit(x->session);
	gnutls_certificate_free_credentials(x->none);
	tls_destroy(x->tls);
	uv_run(&x->loop, UV_RUN_DEFAULT);
	int r = uv_loop_close(&x->loop);
	free(x);
	return r;
}

static void shake_hands(struct bench *x)
{
	int r;
	while ((r = gnutls_handshake(x->session)) != 0) {
		assert_int_equal(r, GNUTLS_E_AGAIN);
		turn(x);
	}
	turn(x); /* the last word is the client's */
}

/* As the one who has the plain end does: closes, and says so. */
static void end(struct bench *x)
{
	close_fd(&x->plain);
	tls_conn_end(steal_ptr(&x->conn));
}

/* What the client sends until all of it is there, and what the plain end then has. */
static void send_in(struct bench *x, size_t len)
{
	uint8_t *got = malloc(len);
	for (size_t sent = 0, at = 0; at < len;) {
		ssize_t n = sent < len ? gnutls_record_send(x->session, bytes + sent, len - sent) : 0;
		assert_true(n >= 0 || n == GNUTLS_E_AGAIN);
		sent += n > 0 ? (size_t)n : 0;
		turn(x);
		n = recv(x->plain, got + at, len - at, 0);
		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
		at += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(got, bytes, len);
	free(got);
}

/* How much the client gets until its stream is closed in order. */
static size_t receive_all(struct bench *x)
{
	static uint8_t buf[16384];
	ssize_t n;
	size_t at = 0;
	while ((n = gnutls_record_recv(x->session, buf, 1 + at % sizeof buf)) != 0) {
		if (n == GNUTLS_E_AGAIN) {
			turn(x);
			continue;
		}
		if (n < 0)
			fail_msg("%s", gnutls_strerror((int)n));
		assert_memory_equal(buf, bytes + at, n);
		at += (size_t)n;
	}
	return at;
}

/* As much as the pair takes. */
static size_t fill(struct bench *x)
{
	size_t at = 0;
	ssize_t n;
	while (at < LONG && (n = send(x->plain, bytes + at, LONG - at, MSG_NOSIGNAL)) > 0)
		at += (size_t)n;
	return at;
}

static void wait_end(struct bench *x)
{
	char waste[256];
	ssize_t n;
	while ((n = recv(x->plain, waste, sizeof waste, 0)) != 0) {
		assert_true(n > 0 || errno == EAGAIN);
		turn(x);
	}
}

static void every_byte_goes_both_ways(void **state)
{
	struct bench *x = *state;
	shake_hands(x);
	send_in(x, LONG);
	size_t sent = fill(x);
	assert_true(sent > 65536);
	end(x);
	assert_int_equal(receive_all(x), sent);
}

static void small_records_lose_nothing(void **state)
{
	struct bench *x = *state;
	assert_int_equal(gnutls_record_set_max_recv_size(x->session, 512), 0);
	shake_hands(x);
	send_in(x, 100000);
	size_t sent = fill(x);
	turn(x);
	end(x);
	assert_int_equal(receive_all(x), sent);
}

/* And not in the smallest pieces: tls.h says why that is worth a test. */
static void a_record_is_moved_at_once(void **state)
{
	struct bench *x = *state;
	shake_hands(x);
	for (size_t sent = 0; sent < 1000;) {
		ssize_t n = gnutls_record_send(x->session, bytes + sent, 1000 - sent);
		sent += n > 0 ? (size_t)n : 0;
	}
	uint8_t got[1000];
	uv_run(&x->loop, UV_RUN_ONCE);
	assert_int_equal(recv(x->plain, got, sizeof got, 0), sizeof got);
	assert_int_equal(send(x->plain, bytes, 1000, 0), 1000);
	uv_run(&x->loop, UV_RUN_ONCE);
	assert_int_equal(gnutls_record_recv(x->session, got, sizeof got), sizeof got);
}

static void each_side_ends_by_itself(void **state)
{
	struct bench *x = *state;
	shake_hands(x);
	/* The plain end has nothing more to say, and listens. */
	shutdown(x->plain, SHUT_WR);
	assert_int_equal(receive_all(x), 0);
	send_in(x, 100000);
	assert_int_equal(gnutls_bye(x->session, GNUTLS_SHUT_WR), 0);
	wait_end(x);
	end(x);
	assert_int_equal(recv(x->client, &(char){0}, 1, 0), 0);
}

static void a_client_that_listens_still_gets_its_answer(void **state)
{
	struct bench *x = *state;
	shake_hands(x);
	assert_int_equal(gnutls_record_send(x->session, "question", 8), 8);
	assert_int_equal(gnutls_bye(x->session, GNUTLS_SHUT_WR), 0);
	wait_end(x);
	size_t sent = fill(x);
	turn(x);
	end(x);
	assert_int_equal(receive_all(x), sent);
}

/* What it says then is no reason for a reset, which would cost it the last bytes. */
static void a_client_may_talk_into_the_end(void **state)
{
	struct bench *x = *state;
	shake_hands(x);
	size_t sent = fill(x);
	end(x);
	turn(x);
	while (gnutls_record_send(x->session, bytes, 4096) > 0)
		;
	assert_int_equal(receive_all(x), sent);
}

static void what_is_not_tls_ends(void **state)
{
	struct bench *x = *state;
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	assert_int_equal(send(x->client, request, strlen(request), 0), strlen(request));
	wait_end(x);
	end(x);
	char got[64];
	ssize_t n;
	while ((n = recv(x->client, got, sizeof got, 0)) > 0)
		assert_int_equal(got[0], 21); /* an alert */
	assert_true(n == 0 || errno == ECONNRESET);
}

/* The other end sees that, at every moment; nothing stays until a deadline. */
static void a_client_that_leaves_is_noticed(void **state)
{
	for (int turns = 0; turns < 60; turns++) {
		struct bench *x = *state;
		if (turns % 3 == 0)
			send(x->client, bytes, 500, 0); /* and what is answered to that is not read */
		for (int i = 0; i < turns; i++) {
			gnutls_handshake(x->session);
			turn(x);
		}
		if (turns % 2)
			fill(x);
		turn(x);
		close_fd(&x->client);
		wait_end(x);
		end(x);
		for (int i = 0; uv_loop_alive(&x->loop); i++) {
			assert_true(i < 1000);
			turn(x);
		}
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

/* Let go in the middle of whatever it was at. */
static void all_end_with_the_server(void **state)
{
	for (int turns = 0; turns < 40; turns++) {
		struct bench *x = *state;
		for (int i = 0; i < turns; i++) {
			gnutls_handshake(x->session);
			turn(x);
		}
		if (turns % 2)
			fill(x);
		if (turns % 3)
			end(x);
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_byte_goes_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(small_records_lose_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_record_is_moved_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(each_side_ends_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(a_client_that_listens_still_gets_its_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(a_client_may_talk_into_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_tls_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(a_client_that_leaves_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(all_end_with_the_server, setup, teardown),
	};
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
