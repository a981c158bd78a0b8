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
#include "host-shim/daemon/tunnel/tunnel.h"

/* The whole of both rooms, so that the library's own are not linked. */
#include "fake_executions.c"

#include "fake_boxes.c"

#define PING_MS 400      /* 15 s, where people wait */
#define DEADLINE_MS 1000 /* 30 to 75 s; what is to come in time has to, on a busy machine too */

static struct {
	pthread_t thread;
	uv_loop_t loop;
	uv_async_t stop;
	struct http_server *server;
	struct rest *rest;
	struct tunnels *tunnels;
	struct store *store;
	struct auth *auth;
	struct replay *replay;
	struct executions *executions;
	struct boxes *boxes;
	struct images *images;
	struct volumes *volumes;
	char folder[64];
	unsigned port;
} t;

static void on_stop(uv_async_t *a)
{
	http_server_destroy(t.server);
	tunnels_destroy(t.tunnels);
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
	if (volumes_create(&t.volumes,
			   &(struct volumes_config){.loop = &t.loop,
						    .store = t.store,
						    .state_dir = t.folder,
						    .template = "/dev/null"},
			   &e) < 0)
		return -1;
	boxes_create(&t.boxes, &(struct boxes_config){.executions = t.executions}, &e);
	if (auth_create(&t.auth,
			&(struct auth_config){.store = t.store, .state_dir = t.folder, .no_auth = true},
			&e) < 0)
		return -1;
	if (replay_create(&t.replay, t.store, &e) < 0)
		return -1;
	if (tunnels_create(&t.tunnels, &t.loop, t.boxes, &e) < 0)
		return -1;
	char base[96];
	snprintf(base, sizeof base, "%s/base", t.folder);
	fclose(fopen(base, "w"));
	if (images_create(&t.images,
			  &(struct images_config){.loop = &t.loop,
						  .store = t.store,
						  .state_dir = t.folder,
						  .flatten_path = "/bin/false",
						  .base = base},
			  &e) < 0)
		return -1;
	rest_create(&t.rest,
		    &(struct rest_config){.loop = &t.loop,
					  .boxes = t.boxes,
					  .images = t.images,
					  .executions = t.executions,
					  .volumes = t.volumes,
					  .auth = t.auth,
					  .replay = t.replay,
					  .tunnels = t.tunnels,
					  .hold_ms = 200},
		    &e);
	struct http_config c = {
		.loop = &t.loop,
		.head_timeout_ms = DEADLINE_MS,
		.body_timeout_ms = DEADLINE_MS,
		.idle_timeout_ms = DEADLINE_MS,
		.ping_ms = PING_MS,
	};
	rest_serve(t.rest, &c);
	if (http_server_create(&t.server, &c, &e) < 0 || http_listen_tcp(t.server, "127.0.0.1:0", &e) < 0)
		return -1;
	t.port = (unsigned)atoi(strrchr(http_listen_url(t.server, 0), ':') + 1);
	int r = pthread_create(&t.thread, NULL, serve, NULL);
	/* A command that ends concerns the loop's thread: this one it would take out of a recv(2) with a
	 * timeout. */
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &child, NULL);
	return r;
}

static int tear_down(void **state)
{
	(void)state;
	char key[96];
	uv_async_send(&t.stop);
	pthread_join(t.thread, NULL);
	rest_destroy(t.rest);
	images_destroy(t.images);
	volumes_destroy(t.volumes);
	store_close(t.store);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	replay_destroy(t.replay);
	auth_destroy(t.auth);
	boxes_destroy(t.boxes);
	executions_destroy(t.executions);
	free(fake_file);
	snprintf(key, sizeof key, "%s/admin.key", t.folder);
	unlink(key);
	static const char *const files[] = {"db",           "db-wal",      "db-shm", "base",
					    "images/cache", "images/work", "images"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(key, sizeof key, "%s/%s", t.folder, files[i]);
		remove(key);
	}
	snprintf(key, sizeof key, "%s/volumes", t.folder);
	rmdir(key);
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
	char *reply = hear(fd, NULL);
	assert_non_null(strstr(reply, "HTTP/1.1 408 "));
	/* One minted for what never became a request, in header and body alike. */
	const char *id = strstr(reply, "X-Request-Id: req_"),
		   *in_body = strstr(reply, "\"request_id\":\"req_");
	assert_true(id && in_body && memcmp(id + 14, in_body + 14, 36) == 0);
	close(fd);
}

static void half_a_body_is_told_408_in_time(void **state)
{
	(void)state;
	static const char half[] = "POST /v1/boxes HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: "
				   "mine-1\r\nContent-Length: 9\r\n\r\n{";
	int fd = dial();
	say(fd, half, sizeof half - 1);
	char *reply = hear(fd, NULL);
	assert_non_null(strstr(reply, "HTTP/1.1 408 "));
	assert_non_null(strstr(reply, "X-Request-Id: mine-1\r\n"));
	assert_non_null(strstr(reply, "\"request_id\":\"mine-1\""));
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
	assert_null(strstr(hear(fd, NULL), "HTTP/1.1 408"));
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

/* The length of a frame's payload, its head read: two bytes of it are in head. */
static size_t frame_length(int fd, const uint8_t head[2])
{
	uint8_t more[8];
	size_t n = head[1] == 126 ? 2 : head[1] == 127 ? 8 : 0, len = n ? 0 : head[1];
	assert_int_equal(recv(fd, more, n, MSG_WAITALL), (ssize_t)n);
	for (size_t i = 0; i < n; i++)
		len = len << 8 | more[i];
	return len;
}

/* Long pieces go out of the log's files, past the queue of short ones, while the socket is full most of the
 * time: every frame is whole code points, and all of them come. */
static void long_output_comes_whole_and_in_order(void **state)
{
	(void)state;
	static uint8_t payload[1 << 20];
	const size_t total = 3 * 400000;
	size_t got = 0, frames = 0, len;
	uint8_t head[2];
	char path[128];
	/* Pieces of many sizes: of 3 bytes, of 5,000, and what the pipe makes of the rest. */
	start("e() { yes € | tr -d '\\\\n' | head -c $1; }; for i in 1 2 3 4 5 6 7 8; do e 3; sleep 0.01; e "
	      "4998; "
	      "sleep 0.01; done; e 1159992",
	      path);
	int fd = attach(path), small = 4096;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	usleep(200000);
	while (got < total) {
		assert_int_equal(recv(fd, head, 2, MSG_WAITALL), 2);
		len = frame_length(fd, head);
		assert_true(len < sizeof payload);
		assert_int_equal(recv(fd, payload, len, MSG_WAITALL), (ssize_t)len);
		if (head[0] == 0x89)
			continue;
		assert_int_equal(head[0], 0x82);
		assert_int_equal(payload[0], 1);
		for (size_t i = 1; i < len; i += 3)
			assert_memory_equal(payload + i, "€", 3);
		got += len - 1;
		if (++frames % 4 == 0)
			usleep(5000);
	}
	assert_int_equal(got, total);
	assert_int_equal(next_frame(fd, payload, &len), 0x81);
	assert_int_equal(next_frame(fd, payload, &len), 0x88);
	assert_memory_equal(payload, "\x03\xe8", 2);
	close(fd);
}

/* Milliseconds until the server closes; every ping is counted, and answered if it is to be. */
static unsigned pinged_for(int fd, bool answer, unsigned limit_ms, unsigned *pings)
{
	struct timespec from, now;
	uint8_t head[2], payload[128], pong[6 + 128] = {0x8a};
	unsigned ms = 0;
	struct timeval wait = {.tv_usec = 20000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (*pings = 0; ms < limit_ms;) {
		ssize_t n = recv(fd, head, 2, 0);
		clock_gettime(CLOCK_MONOTONIC, &now);
		ms = (unsigned)((now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		if (n != 2 || head[0] != 0x89)
			continue;
		assert_int_equal(recv(fd, payload, head[1], MSG_WAITALL), head[1]);
		++*pings;
		pong[1] = 0x80 | head[1]; /* masked with zeros */
		memcpy(pong + 6, payload, head[1]);
		if (answer)
			say(fd, pong, 6u + head[1]);
	}
	return ms;
}

/* 45 s without a pong, at the pace of this test: whoever is silent so long is gone, and its place is free.
 * The kernel takes pings for a client that hangs, so that sending them proves nothing. */
static void a_websocket_without_pongs_is_closed(void **state)
{
	(void)state;
	char path[128];
	unsigned pings;
	start("sleep 20", path);
	int fd = attach(path);
	unsigned ms = pinged_for(fd, false, 20 * PING_MS, &pings);
	assert_in_range(ms, 2 * PING_MS, 6 * PING_MS);
	assert_in_range(pings, 2, 4);
	close(fd);
	fd = attach(path);
	assert_true(pinged_for(fd, true, 5 * PING_MS, &pings) >= 5 * PING_MS);
	assert_true(pings >= 4);
	close(fd);
}

static void a_quiet_event_stream_says_that_it_lives(void **state)
{
	(void)state;
	char path[128], head[256];
	start("sleep 20", path);
	int len = snprintf(head, sizeof head, "GET %s/output HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
	int fd = dial();
	say(fd, head, (size_t)len);
	assert_non_null(strstr(hear(fd, ":\n\n"), ":\n\n"));
	close(fd);
}

/* Half a code point waits for its other half, but not for ever. */
static void half_a_code_point_is_sent_in_the_end(void **state)
{
	(void)state;
	char path[128];
	uint8_t payload[256];
	size_t len;
	start("printf 'a\\\\303'; sleep 20", path);
	int fd = attach(path);
	assert_int_equal(next_frame(fd, payload, &len), 0x82);
	assert_int_equal(len, 2);
	assert_int_equal(next_frame(fd, payload, &len), 0x82);
	assert_memory_equal(payload, "\x01\303", 2);
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

static void resizes_and_takes_signals_by_name(void **state)
{
	(void)state;
	char head[256], body[] = "{\"command\":\"sleep\",\"args\":[\"5\"],\"tty\":true}", path[128];
	ask("POST /v1/boxes", "{\"name\":\"b\"}");
	char *id = strstr(ask("POST /v1/boxes/b/exec", body), "execution_id\":\"");
	assert_non_null(id);
	snprintf(path, sizeof path, "/v1/boxes/b/executions/%.32s", id + 15);
	snprintf(head, sizeof head, "POST %s/resize", path);
	assert_non_null(strstr(ask(head, "{\"cols\":132,\"rows\":50}"), "HTTP/1.1 204 "));
	assert_int_equal(t.executions->first->rows, 50);
	assert_int_equal(t.executions->first->cols, 132);
	assert_non_null(strstr(ask(head, "{\"cols\":132}"), "\"field\":\"rows\""));
	assert_non_null(strstr(ask(head, "{\"cols\":0,\"rows\":1}"), "\"field\":\"cols\""));
	snprintf(head, sizeof head, "POST %s/signal", path);
	assert_non_null(strstr(ask(head, "{\"signal\":\"SIGKILL\"}"), "\"invalid_argument\""));
	assert_non_null(strstr(ask(head, "{\"signal\":\"sigterm\"}"), "HTTP/1.1 204 "));
	snprintf(head, sizeof head, "GET %s/output", path);
	assert_non_null(strstr(ask(head, ""), "\"exit_code\":-15"));
}

static void waits_for_the_whole_command(void **state)
{
	(void)state;
	ask("POST /v1/boxes", "{\"name\":\"b\"}");
	char *all =
		ask("POST /v1/boxes/b/exec?wait=true",
		    "{\"command\":\"sh\",\"args\":[\"-c\",\"cat; echo one; printf '\\\\377' >&2; exit 3\"],"
		    "\"stdin\":\"zero \"}");
	assert_non_null(strstr(all, "HTTP/1.1 200 OK"));
	assert_non_null(strstr(all, "\"stdout\":\"zero one\\n\""));
	assert_non_null(strstr(all, "\"stdout_encoding\":\"utf-8\""));
	assert_non_null(strstr(all, "\"stderr\":\"/w==\""));
	assert_non_null(strstr(all, "\"stderr_encoding\":\"base64\""));
	assert_non_null(strstr(all, "\"exit_code\":3"));
	assert_non_null(strstr(all, "\"truncated\":false"));
	/* cat without a stdin has an empty one. */
	all = ask("POST /v1/boxes/b/exec?wait=1", "{\"command\":\"cat\"}");
	assert_non_null(strstr(all, "\"stdout\":\"\""));
	assert_non_null(strstr(ask("POST /v1/boxes/b/exec?wait=maybe", "{\"command\":\"cat\"}"), " 400 "));
}

/* Counts the reply without keeping it. */
static void waits_and_keeps_eight_mebibytes(void **state)
{
	(void)state;
	static const char body[] =
		"{\"command\":\"sh\",\"args\":[\"-c\",\"head -c 9000000 /dev/zero | tr '\\\\000' a\"]}";
	static char piece[65536], tail[65536];
	int fd = dial();
	char head[256];
	int len = snprintf(head, sizeof head,
			   "POST /v1/boxes/b/exec?wait=true HTTP/1.1\r\nHost: localhost\r\n"
			   "Connection: close\r\nContent-Length: %zu\r\n\r\n",
			   strlen(body));
	say(fd, head, (size_t)len);
	say(fd, body, strlen(body));
	size_t as = 0;
	ssize_t n;
	while ((n = recv(fd, piece, sizeof piece - 1, 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			as += piece[i] == 'a';
		memcpy(tail, piece, (size_t)n);
		tail[n] = '\0';
	}
	close(fd);
	assert_true(as >= 8u << 20 && as < (8u << 20) + 64);
	assert_non_null(strstr(tail, "\"truncated\":true"));
}

/* The server may end, or the client leave, while a command is waited for. */
static void leaves_a_wait_open(void **state)
{
	(void)state;
	static const char request[] =
		"POST /v1/boxes/b/exec?wait=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: 34\r\n\r\n"
		"{\"command\":\"sleep\",\"args\":[\"1\"]}";
	say(dial(), request, sizeof request - 1);
	ask("GET /v1/config", "");
}

/* ---- files: bodies and replies of any length ---- */

#define BIG 3000000u

static uint8_t big_byte(size_t at)
{
	return (uint8_t)(at * 7 + at / 251);
}

/* Sends BIG bytes in chunks of varying size, or as one body. */
static int put_big(const char *path, bool chunked)
{
	char head[256];
	int fd = dial();
	int len = chunked ? snprintf(head, sizeof head,
				     "PUT %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
				     "Transfer-Encoding: chunked\r\n\r\n",
				     path)
			  : snprintf(head, sizeof head,
				     "PUT %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
				     "Content-Length: %u\r\n\r\n",
				     path, BIG);
	say(fd, head, (size_t)len);
	static uint8_t piece[70000];
	for (size_t at = 0, n; at < BIG; at += n) {
		n = 1 + at % 69999;
		n = n < BIG - at ? n : BIG - at;
		for (size_t i = 0; i < n; i++)
			piece[i] = big_byte(at + i);
		if (chunked)
			say(fd, head, (size_t)snprintf(head, sizeof head, "%zx\r\n", n));
		say(fd, piece, n);
		if (chunked)
			say(fd, "\r\n", 2);
	}
	if (chunked)
		say(fd, "0\r\n\r\n", 5);
	return fd;
}

static void a_big_body_passes_through(void **state)
{
	(void)state;
	for (int chunked = 0; chunked < 2; chunked++) {
		ask("POST /v1/boxes", "{\"name\":\"b\"}");
		int fd = put_big("/v1/boxes/b/files/content?path=/file", chunked);
		assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 204 "));
		close(fd);
		assert_int_equal(fake_size, BIG);
		for (size_t i = 0; i < BIG; i++)
			assert_int_equal(fake_file[i], big_byte(i));
	}
}

/* The status, with the body's length and whether all of its bytes were right. */
static char *get_big(const char *more, size_t first, size_t *len)
{
	static char head[4096];
	static uint8_t piece[65536];
	char request[512];
	int fd = dial();
	say(fd, request,
	    (size_t)snprintf(request, sizeof request,
			     "GET /v1/boxes/b/files/content?path=/file HTTP/1.1\r\nHost: localhost\r\n%s"
			     "Connection: close\r\n\r\n",
			     more));
	size_t n = 0;
	while (n < sizeof head - 1 && (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) &&
	       recv(fd, head + n, 1, 0) == 1)
		n++;
	head[n] = '\0';
	*len = 0;
	for (ssize_t got; (got = recv(fd, piece, sizeof piece, 0)) > 0; *len += (size_t)got)
		for (ssize_t i = 0; i < got; i++)
			assert_int_equal(piece[i], big_byte(first + *len + (size_t)i));
	close(fd);
	return head;
}

static void a_big_file_comes_back_whole_and_in_ranges(void **state)
{
	(void)state;
	size_t len;
	assert_int_equal(fake_size, BIG);
	char *head = get_big("", 0, &len);
	assert_non_null(strstr(head, "HTTP/1.1 200 OK"));
	assert_non_null(strstr(head, "Content-Length: 3000000\r\n"));
	assert_non_null(strstr(head, "X-File-Mode: 0640\r\n"));
	assert_int_equal(len, BIG);
	head = get_big("Range: bytes=1000-1999\r\n", 1000, &len);
	assert_non_null(strstr(head, "HTTP/1.1 206 "));
	assert_non_null(strstr(head, "Content-Range: bytes 1000-1999/3000000\r\n"));
	assert_int_equal(len, 1000);
	head = get_big("Range: bytes=2999999-\r\n", 2999999, &len);
	assert_non_null(strstr(head, "HTTP/1.1 206 "));
	assert_int_equal(len, 1);
	head = get_big("Range: bytes=1-2,5-6\r\n", 0, &len);
	assert_non_null(strstr(head, "HTTP/1.1 200 "));
	assert_int_equal(len, BIG);
	assert_non_null(strstr(
		ask("GET /v1/boxes/b/files/content?path=/file HTTP/1.1\r\nRange: bytes=3000000-\r\nX:", ""),
		"HTTP/1.1 416 "));
	char *reply = ask("HEAD /v1/boxes/b/files/content?path=/file", "");
	assert_non_null(strstr(reply, "Content-Length: 3000000\r\n"));
	assert_non_null(strstr(reply, "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
}

static void a_failed_upload_is_told_with_its_path(void **state)
{
	(void)state;
	int fd = put_big("/v1/boxes/b/files/content?path=/full", false);
	char *reply = hear(fd, NULL);
	assert_non_null(strstr(reply, "HTTP/1.1 507 "));
	assert_non_null(strstr(reply, "\"path\":\"/full\""));
	assert_non_null(strstr(reply, "\"errno_name\":\"ENOSPC\""));
	assert_non_null(strstr(reply, "\"resource_exhausted\""));
	close(fd);
	reply = ask("DELETE /v1/boxes/b/files/content?path=relative", "");
	assert_non_null(strstr(reply, "\"field\":\"path\""));
	reply = ask("GET /v1/boxes/b/files/content?path=/none", "");
	assert_non_null(strstr(reply, "HTTP/1.1 404 "));
	assert_non_null(strstr(ask("GET /v1/boxes/b/files/content", ""), "\"field\":\"path\""));
	assert_non_null(
		strstr(ask("PUT /v1/boxes/b/files/content?path=/f&mode=9", "x"), "\"field\":\"mode\""));
}

static void who_leaves_gives_the_upload_up(void **state)
{
	(void)state;
	static const char half[] = "PUT /v1/boxes/b/files/content?path=/file HTTP/1.1\r\nHost: localhost\r\n"
				   "Content-Length: 100000\r\n\r\nhalf";
	unsigned before = fake_given_up;
	int fd = dial();
	say(fd, half, sizeof half - 1);
	close(fd);
	for (int i = 0; i < 500 && fake_given_up == before; i++)
		usleep(10000);
	assert_int_equal(fake_given_up, before + 1);
	/* One that goes silent is told, and given up as well. */
	fd = dial();
	say(fd, half, sizeof half - 1);
	assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 408 "));
	for (int i = 0; i < 500 && fake_given_up == before + 1; i++)
		usleep(10000);
	assert_int_equal(fake_given_up, before + 2);
	close(fd);
}

static void names_that_are_no_text_are_told_exactly(void **state)
{
	(void)state;
	char *reply = ask("GET /v1/boxes/b/files/list?path=/", "");
	assert_non_null(strstr(reply, "\"name\":\"a\xef\xbf\xbd"
				      "b\""));
	assert_non_null(strstr(reply, "\"name_base64\":\"Yf9i\""));
	assert_non_null(strstr(reply, "\"truncated\":false"));
	assert_non_null(strstr(ask("GET /v1/boxes/b/files/list?path=/&limit=0", ""), "\"field\":\"limit\""));
}

static void tells_the_console_and_the_executions(void **state)
{
	(void)state;
	char path[128];
	char *reply = ask("GET /v1/boxes/b/console", "");
	assert_non_null(strstr(reply, "Content-Type: text/plain\r\n"));
	assert_non_null(strstr(reply, "Linux version\n"));
	start("sleep 5", path);
	reply = ask("GET /v1/boxes/b/executions?limit=1", "");
	assert_non_null(strstr(reply, strrchr(path, '/') + 1));
	assert_non_null(strstr(reply, "\"truncated\":true"));
	assert_non_null(strstr(ask("GET /v1/boxes/b/executions?limit=0", ""), "\"field\":\"limit\""));
}

/* Connected to a tunnel of the fake, which is an echo. */
static int dial_tunnel(void)
{
	char *uri = strstr(ask("POST /v1/boxes/b/network/tunnel?port=80", ""), "http://127.0.0.1:");
	assert_non_null(uri);
	unsigned api = t.port;
	t.port = (unsigned)atoi(uri + 17);
	int fd = dial();
	t.port = api;
	return fd;
}

static void a_tunnel_takes_connect_and_bare_bytes(void **state)
{
	(void)state;
	static const char request[] = "CONNECT any:1 HTTP/1.1\r\nHost: any:1\r\n\r\nearly ";
	static uint8_t much[300000], got[65536];
	int fd = dial_tunnel();
	for (size_t i = 0; i < sizeof request - 1; i++) /* byte by byte */
		say(fd, request + i, 1);
	assert_non_null(strstr(hear(fd, "early "), "HTTP/1.1 200 Connection established\r\n\r\nearly "));
	for (size_t i = 0; i < sizeof much; i++)
		much[i] = big_byte(i);
	say(fd, much, sizeof much);
	shutdown(fd, SHUT_WR);
	size_t n = 0;
	for (ssize_t r; (r = recv(fd, got, sizeof got, 0)) > 0; n += (size_t)r)
		assert_memory_equal(got, much + n, (size_t)r);
	assert_int_equal(n, sizeof much);
	close(fd);

	fd = dial_tunnel();
	say(fd, "GET / HTTP/1.0\r\n\r\n", 18);
	shutdown(fd, SHUT_WR);
	assert_string_equal(hear(fd, NULL), "GET / HTTP/1.0\r\n\r\n");
	close(fd);

	fd = dial_tunnel();
	say(fd, "CONNECT nonsense\r\n\r\n", 20);
	assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 400 "));
	close(fd);
	dial_tunnel(); /* says nothing, and is there when the server ends */
}

static void a_box_has_a_network_unless_told_otherwise(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		bool outbound;
	} cases[] = {
		{"", true},
		{"{}", true},
		{"{\"network\":null}", true},
		{"{\"network\":\"enabled\"}", true},
		{"{\"network\":\"disabled\"}", false},
		{"{\"network\":\"isolated\"}", false},
		{"{\"network\":{}}", true},
		{"{\"network\":{\"mode\":\"enabled\",\"allow_net\":[]}}", true},
		{"{\"network\":{\"mode\":\"disabled\"}}", false},
		{"{\"network\":{\"outbound\":{\"mode\":\"enabled\"},\"inbound\":{\"mode\":\"enabled\"}}}",
		 true},
		{"{\"network\":{\"outbound\":{\"mode\":\"disabled\"},\"inbound\":{\"mode\":\"enabled\"}}}",
		 false},
		{"{\"network\":{\"outbound\":{},\"inbound\":{\"mode\":\"disabled\"}}}", true},
		{"{\"network\":{\"inbound\":{\"mode\":\"disabled\"}}}", true},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fake_outbound = !cases[i].outbound;
		if (!strstr(ask("POST /v1/boxes", cases[i].body), "HTTP/1.1 201 ") ||
		    fake_outbound != cases[i].outbound)
			fail_msg("%s", cases[i].body);
	}
	assert_non_null(
		strstr(ask("GET /v1/boxes/b", ""), "\"network\":{\"outbound\":{\"mode\":\"enabled\""));
	/* A mode that is none leaves no box, and no network either. */
	assert_non_null(strstr(ask("POST /v1/boxes", "{\"network\":\"Disabled\"}"), "\"field\":\"network\""));
	assert_non_null(
		strstr(ask("POST /v1/boxes", "{\"network\":{\"mode\":\"disabled\",\"allow_net\":[\"a\"]}}"),
		       "\"code\":\"unsupported\""));
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
		cmocka_unit_test(a_websocket_without_pongs_is_closed),
		cmocka_unit_test(a_quiet_event_stream_says_that_it_lives),
		cmocka_unit_test(half_a_code_point_is_sent_in_the_end),
		cmocka_unit_test(long_output_comes_whole_and_in_order),
		cmocka_unit_test(unmasked_frames_end_with_1002),
		cmocka_unit_test(resizes_and_takes_signals_by_name),
		cmocka_unit_test(waits_for_the_whole_command),
		cmocka_unit_test(waits_and_keeps_eight_mebibytes),
		cmocka_unit_test(leaves_a_wait_open),
		cmocka_unit_test(a_big_body_passes_through),
		cmocka_unit_test(a_big_file_comes_back_whole_and_in_ranges),
		cmocka_unit_test(a_failed_upload_is_told_with_its_path),
		cmocka_unit_test(who_leaves_gives_the_upload_up),
		cmocka_unit_test(names_that_are_no_text_are_told_exactly),
		cmocka_unit_test(tells_the_console_and_the_executions),
		cmocka_unit_test(a_tunnel_takes_connect_and_bare_bytes),
		cmocka_unit_test(a_box_has_a_network_unless_told_otherwise),
		cmocka_unit_test(leaves_streams_open),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
