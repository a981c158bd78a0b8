#include "vmm_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/cleanup.h"
#include "proto/frame.h"
#include "proto/message.h"

#define STREAM 1
#define ANSWER_MAX (128 * 1024)

struct vmm_call {
	uv_pipe_t pipe;
	uv_timer_t deadline;
	uv_connect_t connect;
	uv_write_t write;
	int handles;
	bool greeted, over;
	vmm_call_fn done;
	void *arg;
	struct frame_reader reader;
	struct message_joiner joiner;
	uint8_t *out; /* HELLO and the request, in frames */
	size_t out_len;
	uint8_t in[FRAME_SIZE_MAX], joined[ANSWER_MAX];
};

static void on_closed(uv_handle_t *h)
{
	struct vmm_call *c = h->data;
	if (--c->handles > 0)
		return;
	free(c->out);
	free(c);
}

static void finish(struct vmm_call *c, const Tenon__VmmResponse *m, const struct err *e)
{
	if (c->over)
		return;
	c->over = true;
	uv_close((uv_handle_t *)&c->pipe, on_closed);
	uv_close((uv_handle_t *)&c->deadline, on_closed);
	if (c->done)
		c->done(c->arg, m, e);
}

void vmm_call_cancel(struct vmm_call *c)
{
	if (!c)
		return;
	c->done = NULL;
	finish(c, NULL, NULL);
}

static void fail(struct vmm_call *c, int errnum, const char *what)
{
	struct err e;
	err_sys(&e, "vmm.sock", errnum, "%s", what);
	finish(c, NULL, &e);
}

static void take_answer(struct vmm_call *c, const struct message *m)
{
	Tenon__VmmResponse *answer = tenon__vmm_response__unpack(NULL, m->len, m->data);
	struct err e = {0};
	if (!answer)
		err_set(&e, "vmm.sock", EPROTO, "an answer that does not unpack");
	else if (answer->error)
		err_set(&e, "vmm.sock", EREMOTEIO, "%s", answer->error->message);
	finish(c, e.errnum ? NULL : answer, &e);
	if (answer)
		tenon__vmm_response__free_unpacked(answer, NULL);
}

static int take_frame(struct vmm_call *c, const struct frame *f, struct err *e)
{
	struct message m;
	int r;
	if (!c->greeted) {
		if (f->type != FRAME_HELLO)
			return err_set(e, "vmm.sock", EPROTO, "a frame before HELLO");
		c->greeted = true;
		r = frame_get_hello_prefix(f, e);
		return r < 0 ? r : 0;
	}
	if (f->type == FRAME_GOAWAY)
		return err_set(e, "vmm.sock", EPROTO, "tenon-vmm sent us away");
	if (f->type != FRAME_RSP)
		return 0;
	r = message_join(&c->joiner, f, &m, e);
	if (r > 0)
		take_answer(c, &m);
	return r < 0 ? r : 0;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct vmm_call *c = s->data;
	(void)buf;
	if (n < 0) {
		fail(c, (int)-n, "no answer");
		return;
	}
	frame_reader_commit(&c->reader, (size_t)n);
	struct frame f;
	struct err e = {0};
	int r;
	while (!c->over && (r = frame_reader_next(&c->reader, &f, &e)) != 0) {
		if (r > 0)
			r = take_frame(c, &f, &e);
		if (r < 0)
			finish(c, NULL, &e);
	}
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct vmm_call *c = h->data;
	(void)suggested;
	size_t len;
	buf->base = (char *)frame_reader_space(&c->reader, &len);
	buf->len = len;
}

static void on_written(uv_write_t *w, int status)
{
	if (status < 0)
		fail(w->data, -status, "writing the request");
}

static void on_connected(uv_connect_t *req, int status)
{
	struct vmm_call *c = req->data;
	if (status < 0) {
		fail(c, -status, "connecting");
		return;
	}
	uv_buf_t buf = uv_buf_init((char *)c->out, (unsigned)c->out_len);
	c->write.data = c;
	uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	int r = uv_write(&c->write, (uv_stream_t *)&c->pipe, &buf, 1, on_written);
	if (r < 0)
		fail(c, -r, "writing the request");
}

static void on_deadline(uv_timer_t *t)
{
	fail(t->data, ETIMEDOUT, "waiting for the answer");
}

static int pack(struct vmm_call *c, const Tenon__VmmRequest *request)
{
	Tenon__Hello hello = TENON__HELLO__INIT;
	hello.role = TENON__ROLE__ROLE_VMM;
	hello.version = "tenond";
	size_t greeting = FRAME_HELLO_PREFIX + tenon__hello__get_packed_size(&hello);
	size_t len = tenon__vmm_request__get_packed_size(request);
	size_t wire = len <= FRAME_PAYLOAD_MAX ? message_wire_size(len) : 0;
	c->out_len = FRAME_HEADER_SIZE + greeting + wire;
	c->out = wire ? malloc(c->out_len) : NULL;
	if (!c->out)
		return wire ? -ENOMEM : -EMSGSIZE;

	frame_put_header(c->out, &(struct frame){.len = (uint32_t)greeting, .type = FRAME_HELLO});
	frame_put_hello_prefix(c->out + FRAME_HEADER_SIZE);
	tenon__hello__pack(&hello, c->out + FRAME_HEADER_SIZE + FRAME_HELLO_PREFIX);
	uint8_t *at = c->out + FRAME_HEADER_SIZE + greeting;
	tenon__vmm_request__pack(request, at + wire - len);
	message_put_frames(at, len, STREAM, FRAME_REQ);
	return 0;
}

int vmm_call(struct vmm_call **out, uv_loop_t *loop, const char *socket_path,
	     const Tenon__VmmRequest *request, unsigned deadline_ms, vmm_call_fn done, void *arg,
	     struct err *e)
{
	/* Not zeroed: the two buffers are most of it. */
	_cleanup_free_ struct vmm_call *c = malloc(sizeof *c);
	if (!c)
		return err_sys(e, "vmm.sock", ENOMEM, "request");
	c->done = done;
	c->arg = arg;
	c->greeted = c->over = false;
	c->handles = 2;
	frame_reader_init(&c->reader, c->in, sizeof c->in);
	message_joiner_init(&c->joiner, c->joined, sizeof c->joined);
	int r = pack(c, request);
	if (r < 0)
		return err_sys(e, "vmm.sock", -r, "request");

	uv_pipe_init(loop, &c->pipe, 0);
	uv_timer_init(loop, &c->deadline);
	c->pipe.data = c->deadline.data = c->connect.data = c;
	uv_timer_start(&c->deadline, on_deadline, deadline_ms, 0);
	/* A refusal is told in on_connected, on the loop's next turn. */
	uv_pipe_connect(&c->connect, &c->pipe, socket_path, on_connected);
	*out = steal_ptr(&c);
	return 0;
}

int vmm_call_qmp(struct vmm_call **out, uv_loop_t *loop, const char *socket_path, json_t *command,
		 unsigned deadline_ms, vmm_call_fn done, void *arg, struct err *e)
{
	_cleanup_free_ char *text = command ? json_dumps(command, JSON_COMPACT) : NULL;
	json_decref(command);
	if (!text)
		return err_sys(e, "qmp", ENOMEM, "a command");
	Tenon__VmmQmp qmp = TENON__VMM_QMP__INIT;
	qmp.command = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
	qmp.deadline_ms = deadline_ms;
	Tenon__VmmRequest request = TENON__VMM_REQUEST__INIT;
	request.op_case = TENON__VMM_REQUEST__OP_QMP;
	request.qmp = &qmp;
	/* tenon-vmm's own deadline comes first, and says more. */
	return vmm_call(out, loop, socket_path, &request, deadline_ms + 1000, done, arg, e);
}

json_t *vmm_call_returned(const Tenon__VmmResponse *m, const struct err *why, struct err *e)
{
	if (!m) {
		err_set(e, "qmp", why->errnum == EREMOTEIO ? EIO : why->errnum, "%s", why->msg);
		return NULL;
	}
	json_t *reply = m->result_case == TENON__VMM_RESPONSE__RESULT_QMP
				? json_loadb((const char *)m->qmp->reply.data, m->qmp->reply.len, 0, NULL)
				: NULL;
	json_t *returned = json_incref(json_object_get(reply, "return"));
	const char *desc = json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));
	if (!returned)
		err_set(e, "qmp", desc ? EREMOTEIO : EPROTO, "QEMU: %s",
			desc ? desc : "no answer that is one");
	json_decref(reply);
	return returned;
}
