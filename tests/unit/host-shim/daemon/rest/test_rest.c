/* http/ and rest/ over real sockets, with boxes and executions faked: what the end-to-end tests cannot reach
 * quickly (deadlines) or should not be the first to find (memory errors: this runs under the sanitizers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "host-shim/daemon/rest/rest.h"

/* The whole of both rooms, so that the library's own are not linked. */
#include "fake_boxes.c"
#include "fake_executions.c"

static struct {
	pthread_t thread;
	uv_loop_t loop;
	uv_async_t stop;
	struct http_server *server;
	struct rest *rest;
	struct store *store;
	struct auth *auth;
	struct replay *replay;
	struct executions *executions;
	struct boxes *boxes;
	char folder[64];
	unsigned port;
} t;

static void on_stop(uv_async_t *a)
{
	http_server_destroy(t.server);
	uv_close((uv_handle_t *)a, NULL);
}

static void *serve(void *arg)
{
	(void)arg;
	uv_run(&t.loop, UV_RUN_DEFAULT);
	return NULL;
}

static int set_up(void **state)
{
	(void)state;
	struct err e = {0};
	signal(SIGPIPE, SIG_IGN);
	strcpy(t.folder, "/tmp/tn-rest-XXXXXX");
	if (!mkdtemp(t.folder))
		return -1;
	uv_loop_init(&t.loop);
	uv_async_init(&t.loop, &t.stop, on_stop);
	char db[96];
	snprintf(db, sizeof db, "%s/db", t.folder);
	if (store_open(&t.store, &t.loop, db, &e) < 0)
		return -1;
	executions_create(&t.executions, &(struct executions_config){.loop = &t.loop}, &e);
	boxes_create(&t.boxes, &(struct boxes_config){.executions = t.executions}, &e);
	if (auth_create(&t.auth,
			&(struct auth_config){.store = t.store, .state_dir = t.folder, .no_auth = true},
			&e) < 0)
		return -1;
	if (replay_create(&t.replay, t.store, &e) < 0)
		return -1;
	rest_create(&t.rest,
		    &(struct rest_config){.loop = &t.loop,
					  .boxes = t.boxes,
					  .executions = t.executions,
					  .auth = t.auth,
					  .replay = t.replay},
		    &e);
	struct http_config c = {
		.loop = &t.loop, .head_timeout_ms = 300, .body_timeout_ms = 300, .idle_timeout_ms = 300};
	rest_serve(t.rest, &c);
	if (http_server_create(&t.server, &c, &e) < 0 || http_listen_tcp(t.server, "127.0.0.1:0", &e) < 0)
		return -1;
	t.port = (unsigned)atoi(strrchr(http_listen_url(t.server, 0), ':') + 1);
	return pthread_create(&t.thread, NULL, serve, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	char key[96];
	uv_async_send(&t.stop);
	pthread_join(t.thread, NULL);
	rest_destroy(t.rest);
	store_close(t.store);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	replay_destroy(t.replay);
	auth_destroy(t.auth);
	boxes_destroy(t.boxes);
	executions_destroy(t.executions);
	snprintf(key, sizeof key, "%s/admin.key", t.folder);
	unlink(key);
	static const char *const files[] = {"db", "db-wal", "db-shm"};
	for (size_t i = 0; i < 3; i++) {
		snprintf(key, sizeof key, "%s/%s", t.folder, files[i]);
		unlink(key);
	}
	rmdir(t.folder);
	return uv_loop_close(&t.loop);
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)t.port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	struct timeval limit = {.tv_sec = 10};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, 0), (ssize_t)len);
}

/* Until `until` has come or, with NULL, until the server closes. */
static char *hear(int fd, const char *until)
{
	static char got[65536];
	size_t len = 0;
	got[0] = '\0';
	while (len < sizeof got - 1 && !(until && strstr(got, until))) {
		ssize_t n = recv(fd, got + len, sizeof got - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
		got[len] = '\0';
	}
	return got;
}

/* One request on a connection of its own, to its end. */
static char *ask(const char *head, const char *body)
{
	char request[4096];
	int len = snprintf(
		request, sizeof request,
		"%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", head,
		strlen(body), body);
	int fd = dial();
	say(fd, request, (size_t)len);
	char *reply = hear(fd, NULL);
	close(fd);
	return reply;
}

/* Starts a shell script; its path for further requests. */
static void start(const char *script, char path[128])
{
	char body[512];
	ask("POST /v1/boxes", "{\"name\":\"b\"}");
	snprintf(body, sizeof body, "{\"command\":\"sh\",\"args\":[\"-c\",\"%s\"]}", script);
	char *id = strstr(ask("POST /v1/boxes/b/exec", body), "execution_id\":\"");
	assert_non_null(id);
	snprintf(path, 128, "/v1/boxes/b/executions/%.32s", id + 15);
}

static void answers_a_request(void **state)
{
	(void)state;
	assert_non_null(strstr(ask("GET /v1/config", ""), "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(ask("GET /v1/boxes/nobody", ""), "\"code\":\"not_found\""));
}

static void half_a_head_is_told_408_in_time(void **state)
{
	(void)state;
	int fd = dial();
	say(fd, "GET /v1/con", 11);
	assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 408 "));
	close(fd);
}

static void half_a_body_is_told_408_in_time(void **state)
{
	(void)state;
	static const char half[] = "POST /v1/boxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
	int fd = dial();
	say(fd, half, sizeof half - 1);
	assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 408 "));
	close(fd);
}

/* A byte now and then is no reason to wait longer. */
static void a_trickle_does_not_hold_a_connection(void **state)
{
	(void)state;
	int fd = dial();
	ssize_t n = 1;
	int sent = 0;
	for (; sent < 100 && n == 1; sent++) {
		n = send(fd, "G", 1, MSG_NOSIGNAL);
		usleep(20000);
	}
	assert_true(sent < 100);
	close(fd);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
	(void)state;
	static const char whole[] = "GET /v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n";
	int fd = dial();
	say(fd, whole, sizeof whole - 1);
	assert_null(strstr(hear(fd, NULL), "408"));
	close(fd);
}

static void streams_events_and_resumes(void **state)
{
	(void)state;
	char path[128], head[256];
	start("echo one; sleep 0.1; echo two; exit 3", path);
	snprintf(head, sizeof head, "GET %s/output", path);
	char *all = ask(head, "");
	assert_non_null(strstr(all, "event: stdout\nid: 4\ndata: {\"data\":\"b25lCg==\"}\n\n"));
	assert_non_null(strstr(all, "event: exit\nid: 8\ndata: {\"exit_code\":3,"));
	snprintf(head, sizeof head, "GET %s/output?from=5", path);
	all = ask(head, "");
	assert_non_null(strstr(all, "event: stdout\nid: 8\ndata: {\"data\":\"d28K\"}\n\n"));
	assert_null(strstr(all, "b25lCg=="));
}

/* Upgrades; what came behind the head is left unread in the socket as far as possible. */
static int attach(const char *path)
{
	char request[512];
	int len = snprintf(
		request, sizeof request,
		"GET %s/attach HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		path);
	int fd = dial();
	say(fd, request, (size_t)len);
	char byte, got[1024];
	size_t n = 0;
	while (n < sizeof got - 1 && (n < 4 || memcmp(got + n - 4, "\r\n\r\n", 4) != 0) &&
	       recv(fd, &byte, 1, 0) == 1)
		got[n++] = byte;
	got[n] = '\0';
	assert_non_null(strstr(got, "HTTP/1.1 101 "));
	assert_non_null(strstr(got, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
	return fd;
}

/* The next frame that is no ping: its first byte; payload and its length out. */
static int next_frame(int fd, uint8_t payload[256], size_t *len)
{
	uint8_t head[2];
	do {
		assert_int_equal(recv(fd, head, 2, MSG_WAITALL), 2);
		*len = head[1];
		assert_true(*len < 126);
		assert_int_equal(recv(fd, payload, *len, MSG_WAITALL), (ssize_t)*len);
	} while (head[0] == 0x89);
	return head[0];
}

static void attaches_and_ends_with_1000(void **state)
{
	(void)state;
	char path[128];
	uint8_t payload[256];
	size_t len;
	start("read x; echo got $x; exit 4", path);
	int fd = attach(path);
	say(fd,
	    "\x82\x83"
	    "\0\0\0\0"
	    "hi\n",
	    9); /* masked with zeros */
	assert_int_equal(next_frame(fd, payload, &len), 0x82);
	assert_memory_equal(payload, "\x01got hi\n", 8);
	assert_int_equal(next_frame(fd, payload, &len), 0x81);
	payload[len] = '\0';
	assert_string_equal((char *)payload, "{\"type\":\"exit\",\"exit_code\":4}");
	assert_int_equal(next_frame(fd, payload, &len), 0x88);
	assert_memory_equal(payload, "\x03\xe8", 2);
	close(fd);
}

static void unmasked_frames_end_with_1002(void **state)
{
	(void)state;
	char path[128];
	uint8_t payload[256];
	size_t len;
	start("sleep 5", path);
	int fd = attach(path);
	say(fd, "\x82\x02hi", 4);
	assert_int_equal(next_frame(fd, payload, &len), 0x88);
	assert_memory_equal(payload, "\x03\xea", 2);
	close(fd);
	char head[256];
	snprintf(head, sizeof head, "DELETE %s", path);
	assert_non_null(strstr(ask(head, ""), "HTTP/1.1 204 "));
	assert_non_null(strstr(ask(head, ""), "\"code\":\"session_reaped\""));
}

/* Streams that stand, suspended or upgraded, when the server ends: tear_down finds what they leave behind. */
static void leaves_streams_open(void **state)
{
	(void)state;
	char path[128], request[256];
	start("sleep 1", path);
	attach(path);
	int fd = dial();
	int len =
		snprintf(request, sizeof request, "GET %s/output HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
	say(fd, request, (size_t)len);
	assert_non_null(strstr(hear(fd, "text/event-stream"), "200 OK"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_a_request),
		cmocka_unit_test(half_a_head_is_told_408_in_time),
		cmocka_unit_test(half_a_body_is_told_408_in_time),
		cmocka_unit_test(a_trickle_does_not_hold_a_connection),
		cmocka_unit_test(an_idle_connection_is_closed_without_a_word),
		cmocka_unit_test(streams_events_and_resumes),
		cmocka_unit_test(attaches_and_ends_with_1000),
		cmocka_unit_test(unmasked_frames_end_with_1002),
		cmocka_unit_test(leaves_streams_open),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
