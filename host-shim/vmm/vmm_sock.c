#include "vmm_sock.h"

#include "proto/cleanup.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/vmm.pb-c.h"
#include "unix_sock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define HELLO_MS 5000
#define STOP_MS 2000
#define QMP_MS 5000
#define QMP_MS_MAX 60000
#define CONSOLE_DEFAULT 16384

/* A request whose answer comes later. It outlives its client, since QEMU answers anyway. */
struct call {
	struct vmm_client *client; /* NULL: gone */
	uint32_t stream;
	bool is_stop;
	struct call *next;
};

struct vmm_client {
	struct vmm_sock *server;
	int fd;
	struct loop_source src;
	struct loop_timer hello_deadline;
	struct vmm_client *prev, *next;
	bool greeted, closing;
	uint32_t last_stream;
	struct call *calls;
	unsigned n_calls;
	struct frame_reader reader;
	struct message_joiner joiner;
	size_t out_at, out_len;
	uint8_t in[FRAME_SIZE_MAX];
	uint8_t joined[VMM_SOCK_REQUEST_MAX];
	uint8_t out[VMM_SOCK_OUT_MAX];
};

static void client_destroy(struct vmm_client *c)
{
	for (struct call *call = c->calls, *next; call; call = next) {
		next = call->next;
		call->client = NULL;
		/* Nobody else holds on to a Stop; QEMU's answer frees the others. */
		if (call->is_stop)
			free(call);
	}
	*(c->prev ? &c->prev->next : &c->server->clients) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->server->n_clients--;
	loop_disarm(&c->hello_deadline);
	loop_remove(c->server->loop, &c->src);
	close_fd(&c->fd);
	free(c);
}

/* ---- answers ---- */

static void flush(struct vmm_client *c)
{
	while (c->out_len > 0) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			c->closing = true;
			c->out_len = 0;
			return;
		}
		c->out_at += (size_t)n;
		c->out_len -= (size_t)n;
	}
	c->out_at = 0;
}

/* len bytes at the end of what waits to be sent; NULL (and the client is to go) if it let too much pile up.
 */
static uint8_t *reserve(struct vmm_client *c, size_t len)
{
	memmove(c->out, c->out + c->out_at, c->out_len);
	c->out_at = 0;
	if (len > sizeof c->out - c->out_len) {
		c->closing = true;
		return NULL;
	}
	uint8_t *at = c->out + c->out_len;
	c->out_len += len;
	return at;
}

static void send_frame(struct vmm_client *c, enum frame_type type, const uint8_t *payload, size_t len)
{
	uint8_t *at = reserve(c, FRAME_HEADER_SIZE + len);
	if (!at)
		return;
	frame_put_header(at, &(struct frame){.len = (uint32_t)len, .type = type});
	memcpy(at + FRAME_HEADER_SIZE, payload, len);
}

static void send_hello(struct vmm_client *c)
{
	uint8_t payload[FRAME_HELLO_MAX];
	Tenon__Hello hello = TENON__HELLO__INIT;
	hello.role = TENON__ROLE__ROLE_VMM;
	hello.version = "tenon-vmm";
	frame_put_hello_prefix(payload);
	size_t len = tenon__hello__pack(&hello, payload + FRAME_HELLO_PREFIX);
	send_frame(c, FRAME_HELLO, payload, FRAME_HELLO_PREFIX + len);
}

static void fill_error(Tenon__Error *out, Tenon__Code code, const struct err *e)
{
	out->code = code;
	out->errnum = (uint32_t)e->errnum;
	out->stage = e->stage ? (char *)e->stage : "";
	out->message = (char *)e->msg;
}

static void go_away(struct vmm_client *c, Tenon__Code code, const struct err *e)
{
	uint8_t payload[FRAME_ERROR_MAX];
	Tenon__Error error = TENON__ERROR__INIT;
	fill_error(&error, code, e);
	/* Stage and message are bounded by struct err, far below the frame's limit. */
	send_frame(c, FRAME_GOAWAY, payload, tenon__error__pack(&error, payload));
	flush(c);
	c->closing = true;
}

static void respond(struct vmm_client *c, uint32_t stream, const Tenon__VmmResponse *rsp)
{
	size_t len = tenon__vmm_response__get_packed_size(rsp), wire = message_wire_size(len);
	uint8_t *at = reserve(c, wire);
	if (!at)
		return;
	tenon__vmm_response__pack(rsp, at + wire - len);
	message_put_frames(at, len, stream, FRAME_RSP);
}

static void respond_error(struct vmm_client *c, uint32_t stream, Tenon__Code code, const struct err *e)
{
	Tenon__Error error = TENON__ERROR__INIT;
	Tenon__VmmResponse rsp = TENON__VMM_RESPONSE__INIT;
	fill_error(&error, code, e);
	rsp.error = &error;
	respond(c, stream, &rsp);
}

static void respond_done(struct vmm_client *c, uint32_t stream)
{
	Tenon__Done done = TENON__DONE__INIT;
	Tenon__VmmResponse rsp = TENON__VMM_RESPONSE__INIT;
	rsp.result_case = TENON__VMM_RESPONSE__RESULT_DONE;
	rsp.done = &done;
	respond(c, stream, &rsp);
}

/* ---- calls ---- */

static struct call *call_create(struct vmm_client *c, uint32_t stream, bool is_stop)
{
	struct call *call = c->n_calls < VMM_SOCK_CALLS_MAX ? calloc(1, sizeof *call) : NULL;
	if (!call) {
		struct err e;
		err_set(&e, "vmm_sock", EBUSY, "%d requests wait already", VMM_SOCK_CALLS_MAX);
		respond_error(c, stream, TENON__CODE__CODE_RESOURCE_EXHAUSTED, &e);
		return NULL;
	}
	*call = (struct call){.client = c, .stream = stream, .is_stop = is_stop, .next = c->calls};
	c->calls = call;
	c->n_calls++;
	return call;
}

static void call_destroy(struct call *call)
{
	if (call->client) {
		struct call **at = &call->client->calls;
		while (*at != call)
			at = &(*at)->next;
		*at = call->next;
		call->client->n_calls--;
	}
	free(call);
}

static void do_status(struct vmm_client *c, uint32_t stream)
{
	struct vmm_status s = {0};
	c->server->ops->status(c->server->ctx, &s);
	Tenon__VmmStatusResult result = TENON__VMM_STATUS_RESULT__INIT;
	result.vmm_pid = (uint32_t)s.vmm_pid;
	result.vmm_start_ticks = s.vmm_start_ticks;
	result.qemu_pid = (uint32_t)s.qemu_pid;
	result.started_ns = s.started_ns;
	result.qemu_state = (ProtobufCBinaryData){strlen(s.qemu_state), (uint8_t *)s.qemu_state};
	result.connections = s.connections;
	result.to_guest_bytes = s.to_guest_bytes;
	result.from_guest_bytes = s.from_guest_bytes;
	Tenon__VmmResponse rsp = TENON__VMM_RESPONSE__INIT;
	rsp.result_case = TENON__VMM_RESPONSE__RESULT_STATUS;
	rsp.status = &result;
	respond(c, stream, &rsp);
}

static void do_stop(struct vmm_client *c, uint32_t stream, const Tenon__VmmStop *req)
{
	if (call_create(c, stream, true))
		c->server->ops->stop(c->server->ctx, req->deadline_ms ? req->deadline_ms : STOP_MS);
}

static void qmp_done(void *ctx, const json_t *reply, const struct err *e)
{
	struct call *call = ctx;
	struct vmm_client *c = call->client;
	_cleanup_free_ char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	struct err own;
	if (reply && !text)
		err_sys(&own, "qmp", ENOMEM, "the reply");
	else if (len > VMM_SOCK_REPLY_MAX)
		err_set(&own, "qmp", EMSGSIZE, "a reply of %zu bytes, at most %d fit", len,
			VMM_SOCK_REPLY_MAX);
	else if (reply)
		own = (struct err){0};
	else
		own = *e;

	if (c && own.errnum) {
		Tenon__Code code = own.errnum == ETIMEDOUT ? TENON__CODE__CODE_TIMEOUT
				   : own.errnum == EPIPE   ? TENON__CODE__CODE_SHUTTING_DOWN
							   : TENON__CODE__CODE_RESOURCE_EXHAUSTED;
		respond_error(c, call->stream, code, &own);
	} else if (c) {
		Tenon__VmmQmpResult result = TENON__VMM_QMP_RESULT__INIT;
		result.reply = (ProtobufCBinaryData){len, (uint8_t *)text};
		Tenon__VmmResponse rsp = TENON__VMM_RESPONSE__INIT;
		rsp.result_case = TENON__VMM_RESPONSE__RESULT_QMP;
		rsp.qmp = &result;
		respond(c, call->stream, &rsp);
	}
	call_destroy(call);
	if (c)
		flush(c);
	if (c && c->closing)
		client_destroy(c);
}

static void do_qmp(struct vmm_client *c, uint32_t stream, const Tenon__VmmQmp *req)
{
	struct err e = {0};
	unsigned ms = req->deadline_ms == 0           ? QMP_MS
		      : req->deadline_ms < QMP_MS_MAX ? req->deadline_ms
						      : QMP_MS_MAX;
	json_error_t where;
	json_t *command = json_loadb((const char *)req->command.data, req->command.len, 0, &where);
	struct call *call = NULL;
	if (!command) {
		err_set(&e, "qmp", EINVAL, "command is not JSON: %.100s", where.text);
		respond_error(c, stream, TENON__CODE__CODE_INVALID_ARGUMENT, &e);
	} else if ((call = call_create(c, stream, false))) {
		int r = c->server->ops->qmp(c->server->ctx, command, ms, qmp_done, call, &e);
		if (r < 0) {
			call_destroy(call);
			respond_error(c, stream,
				      r == -EINVAL  ? TENON__CODE__CODE_INVALID_ARGUMENT
				      : r == -EPIPE ? TENON__CODE__CODE_SHUTTING_DOWN
						    : TENON__CODE__CODE_RESOURCE_EXHAUSTED,
				      &e);
		}
	}
	json_decref(command);
}

static void do_console(struct vmm_client *c, uint32_t stream, const Tenon__VmmConsole *req)
{
	uint8_t buf[VMM_SOCK_CONSOLE_MAX];
	size_t cap = req->max_bytes ? req->max_bytes : CONSOLE_DEFAULT;
	uint64_t end = 0;
	ssize_t n = c->server->ops->console(c->server->ctx, buf, cap < sizeof buf ? cap : sizeof buf, &end);
	if (n < 0) {
		struct err e;
		err_sys(&e, "console", (int)-n, "reading the console log");
		respond_error(c, stream, TENON__CODE__CODE_INTERNAL, &e);
		return;
	}
	Tenon__VmmConsoleResult result = TENON__VMM_CONSOLE_RESULT__INIT;
	result.tail = (ProtobufCBinaryData){(size_t)n, buf};
	result.end = end;
	Tenon__VmmResponse rsp = TENON__VMM_RESPONSE__INIT;
	rsp.result_case = TENON__VMM_RESPONSE__RESULT_CONSOLE;
	rsp.console = &result;
	respond(c, stream, &rsp);
}

/* ---- frames ---- */

static int handle_request(struct vmm_client *c, const struct message *m, struct err *e)
{
	if (m->stream <= c->last_stream)
		return err_set(e, "vmm_sock", EPROTO, "stream %u after stream %u", m->stream, c->last_stream);
	c->last_stream = m->stream;
	/* A message is at most VMM_SOCK_REQUEST_MAX and its four arms nest no further: unpacking is bounded.
	 */
	Tenon__VmmRequest *req = tenon__vmm_request__unpack(NULL, m->len, m->data);
	if (!req)
		return err_set(e, "vmm_sock", EPROTO, "request does not unpack");
	switch (req->op_case) {
	case TENON__VMM_REQUEST__OP_STATUS:
		do_status(c, m->stream);
		break;
	case TENON__VMM_REQUEST__OP_STOP:
		do_stop(c, m->stream, req->stop);
		break;
	case TENON__VMM_REQUEST__OP_QMP:
		do_qmp(c, m->stream, req->qmp);
		break;
	case TENON__VMM_REQUEST__OP_CONSOLE:
		do_console(c, m->stream, req->console);
		break;
	default: {
		struct err unknown;
		err_set(&unknown, "vmm_sock", ENOTSUP, "no operation that this tenon-vmm knows");
		respond_error(c, m->stream, TENON__CODE__CODE_UNSUPPORTED, &unknown);
	}
	}
	tenon__vmm_request__free_unpacked(req, NULL);
	return 0;
}

static int handle_hello(struct vmm_client *c, const struct frame *f, struct err *e)
{
	if (f->type != FRAME_HELLO)
		return err_set(e, "vmm_sock", EPROTO, "a frame before HELLO");
	int r = frame_get_hello_prefix(f, e);
	if (r < 0)
		return r;
	Tenon__Hello *hello =
		tenon__hello__unpack(NULL, f->len - FRAME_HELLO_PREFIX, f->payload + FRAME_HELLO_PREFIX);
	bool right = hello && hello->role == TENON__ROLE__ROLE_VMM;
	if (hello)
		tenon__hello__free_unpacked(hello, NULL);
	if (!right)
		return err_set(e, "vmm_sock", EPROTO, "HELLO without the role VMM");
	loop_disarm(&c->hello_deadline);
	c->greeted = true;
	send_hello(c);
	return 0;
}

static int handle_frame(struct vmm_client *c, const struct frame *f, struct err *e)
{
	if (!c->greeted)
		return handle_hello(c, f, e);
	struct message m;
	int r;
	switch (f->type) {
	case FRAME_REQ:
		r = message_join(&c->joiner, f, &m, e);
		return r > 0 ? handle_request(c, &m, e) : r;
	case FRAME_PING:
		send_frame(c, FRAME_PONG, f->payload, f->len);
		return 0;
	case FRAME_PONG:
		return 0;
	case FRAME_GOAWAY:
		c->closing = true;
		return 0;
	default:
		if (f->flags & FRAME_OPTIONAL)
			return 0;
		return err_set(e, "vmm_sock", EPROTO, "frame type %u has no place here", f->type);
	}
}

static void read_frames(struct vmm_client *c)
{
	struct err e = {0};
	struct frame f;
	for (;;) {
		int r = frame_reader_next(&c->reader, &f, &e);
		if (r > 0)
			r = handle_frame(c, &f, &e);
		else if (r == 0) {
			ssize_t n = frame_reader_fill(&c->reader, c->fd);
			if (n == -EAGAIN || n == -EINTR)
				return;
			if (n <= 0)
				c->closing = true;
		}
		if (r < 0)
			go_away(c,
				r == -EMSGSIZE ? TENON__CODE__CODE_RESOURCE_EXHAUSTED
					       : TENON__CODE__CODE_PROTOCOL,
				&e);
		if (c->closing)
			return;
	}
}

static void client_ready(struct loop_source *src, uint32_t events)
{
	struct vmm_client *c = container_of(src, struct vmm_client, src);
	(void)events;
	if (!c->closing)
		read_frames(c);
	flush(c);
	if (c->closing)
		client_destroy(c);
}

static void hello_too_late(struct loop_timer *t)
{
	client_destroy(container_of(t, struct vmm_client, hello_deadline));
}

static bool allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void take_client(struct vmm_sock *s, int fd)
{
	_cleanup_close_ int client = fd;
	struct vmm_client *c = NULL;
	if (!allowed(client) || s->n_clients == VMM_SOCK_CLIENTS_MAX || !(c = calloc(1, sizeof *c)))
		return;
	c->server = s;
	c->src.fd = -1;
	c->fd = steal_fd(&client);
	frame_reader_init(&c->reader, c->in, sizeof c->in);
	message_joiner_init(&c->joiner, c->joined, sizeof c->joined);
	c->next = s->clients;
	if (s->clients)
		s->clients->prev = c;
	s->clients = c;
	s->n_clients++;
	if (loop_add(s->loop, &c->src, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, client_ready) < 0)
		client_destroy(c);
	else
		loop_arm(s->loop, &c->hello_deadline, HELLO_MS, hello_too_late);
}

static void accept_clients(struct loop_source *src, uint32_t events)
{
	struct vmm_sock *s = container_of(src, struct vmm_sock, src);
	(void)events;
	for (;;) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			take_client(s, fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

int vmm_sock_init(struct vmm_sock *s, struct loop *loop, const char *path, const struct vmm_sock_ops *ops,
		  void *ctx, struct err *e)
{
	*s = (struct vmm_sock){.loop = loop, .ops = ops, .ctx = ctx, .fd = -1, .src.fd = -1};
	s->fd = unix_sock_listen(path, e);
	if (s->fd < 0)
		return s->fd;
	int r = loop_add(loop, &s->src, s->fd, EPOLLIN | EPOLLET, accept_clients);
	return r < 0 ? err_sys(e, "socket", -r, "epoll_ctl") : 0;
}

void vmm_sock_stopped(struct vmm_sock *s)
{
	for (struct vmm_client *c = s->clients; c; c = c->next) {
		for (struct call *call = c->calls, *next; call; call = next) {
			next = call->next;
			if (!call->is_stop)
				continue;
			respond_done(c, call->stream);
			call_destroy(call);
		}
		flush(c);
	}
}

void vmm_sock_finish(struct vmm_sock *s)
{
	while (s->clients)
		client_destroy(s->clients);
	loop_remove(s->loop, &s->src);
	close_fd(&s->fd);
}
