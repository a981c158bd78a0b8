/* Any bytes from an agent, after CONNECT, after HELLO or after an answered request: the link ends or it does
 * not, and everyone is told exactly once. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host-shim/daemon/link/link.h"

static uv_loop_t loop;
static char path[64];
static int listener;
static unsigned downs, losts;

static void on_up(void *arg, const Tenon__Hello *hello)
{
	(void)arg;
	if (hello->boot_id.len != 16)
		abort();
}

static void on_down(void *arg, const struct err *why)
{
	(void)arg;
	if (!why->errnum || ++downs > 1)
		abort();
}

static int on_response(struct link_stream *s, const Tenon__Response *m, struct err *e)
{
	(void)s;
	(void)e;
	if (!m->error && m->result_case == TENON__RESPONSE__RESULT__NOT_SET)
		abort();
	return 0;
}

static int on_frame(struct link_stream *s, const struct frame *f, struct err *e)
{
	(void)e;
	if (!s->answered || f->len > FRAME_PAYLOAD_MAX)
		abort();
	return 0;
}

static int on_event(struct link_stream *s, const Tenon__Event *m, struct err *e)
{
	(void)s;
	(void)m;
	(void)e;
	return 0;
}

static void on_lost(struct link_stream *s, const struct err *why)
{
	(void)why;
	if (s->id || ++losts > 1)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	snprintf(path, sizeof path, "/dev/shm/tenon-fuzz-link-%d", getpid());
	strcpy(at.sun_path, path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	uv_loop_init(&loop);
	return bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 8) < 0;
}

static void say(int fd, const void *data, size_t len)
{
	if (send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void spin(void)
{
	for (int i = 0; i < 4; i++)
		uv_run(&loop, UV_RUN_NOWAIT);
}

static void say_hello(int fd)
{
	static uint8_t boot[16];
	uint8_t frame[256];
	Tenon__Hello m = TENON__HELLO__INIT;
	m.boot_id = (ProtobufCBinaryData){16, boot};
	frame_put_hello_prefix(frame + FRAME_HEADER_SIZE);
	size_t n =
		FRAME_HELLO_PREFIX + tenon__hello__pack(&m, frame + FRAME_HEADER_SIZE + FRAME_HELLO_PREFIX);
	frame_put_header(frame, &(struct frame){.len = (uint32_t)n, .type = FRAME_HELLO});
	say(fd, frame, FRAME_HEADER_SIZE + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	unsigned depth = data[0] & 3;
	struct link *l;
	struct link_stream stream = {on_response, on_frame, on_event, on_lost, 0, false, {0}};
	struct link_config c = {.loop = &loop,
				.socket_path = path,
				.port = depth == 0 ? 1000 : 0,
				.host_epoch = 1,
				.up = on_up,
				.down = on_down};
	downs = losts = 0;
	if (link_create(&l, &c, NULL) < 0)
		abort();
	int peer = accept(listener, NULL, NULL);
	if (depth >= 2) {
		say_hello(peer);
		spin();
		Tenon__ListExecs list = TENON__LIST_EXECS__INIT;
		Tenon__Request req = TENON__REQUEST__INIT;
		req.op_case = TENON__REQUEST__OP_LIST_EXECS;
		req.list_execs = &list;
		if (link_open(l, &stream, &req, NULL) < 0)
			abort();
	}
	if (depth == 3)
		say(peer, "\2\0\0\0\1\0\0\0\3\0\0\0\x22\0", 14); /* RSP{done} */
	say(peer, data + 1, size - 1);
	spin();
	if (downs && stream.id)
		abort();
	link_destroy(l);
	close(peer);
	uv_run(&loop, UV_RUN_DEFAULT);
	return 0;
}
