/* What a host says to an agent (proto/WIRE.md), as the load programs say it: one connection, executions that
 * print, and credit as tenond gives it. */
#pragma once

#include <sys/random.h>

#include "net.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/tenon.pb-c.h"

#define AGENT_MESSAGE_MAX 256
#define EXEC_WINDOW (1024 * 1024) /* what tenond gives */

/* ---- the first two messages ---- */

static inline size_t agent_put_hello(uint8_t buf[AGENT_MESSAGE_MAX], Tenon__Role role, uint64_t epoch)
{
	Tenon__Hello h = TENON__HELLO__INIT;
	h.role = role;
	h.host_epoch = epoch;
	h.features = WIRE_FEATURE_ANSWER_LATE | WIRE_FEATURE_CREDIT_WANTED; /* as tenond's */
	size_t n = FRAME_HELLO_PREFIX + tenon__hello__get_packed_size(&h);
	frame_put_header(buf, &(struct frame){.len = (uint32_t)n, .type = FRAME_HELLO});
	frame_put_hello_prefix(buf + FRAME_HEADER_SIZE);
	tenon__hello__pack(&h, buf + FRAME_HEADER_SIZE + FRAME_HELLO_PREFIX);
	return FRAME_HEADER_SIZE + n;
}

/* A box without disks: the place where the agent is. */
static inline size_t agent_put_configure(uint8_t buf[AGENT_MESSAGE_MAX], uint32_t stream)
{
	Tenon__InitramfsRoot initramfs = TENON__INITRAMFS_ROOT__INIT;
	Tenon__Root root = TENON__ROOT__INIT;
	root.kind_case = TENON__ROOT__KIND_INITRAMFS;
	root.initramfs = &initramfs;
	Tenon__Configure c = TENON__CONFIGURE__INIT;
	c.root = &root;
	ProtobufCBinaryData path = {sizeof "PATH=/usr/bin:/bin" - 1, (uint8_t *)"PATH=/usr/bin:/bin"};
	c.n_env = 1;
	c.env = &path;
	Tenon__Request r = TENON__REQUEST__INIT;
	r.op_case = TENON__REQUEST__OP_CONFIGURE;
	r.configure = &c;
	size_t len = tenon__request__get_packed_size(&r), size = message_wire_size(len);
	tenon__request__pack(&r, buf + size - len);
	message_put_frames(buf, len, stream, FRAME_REQ);
	return size;
}

/* ---- a connection ---- */

struct line {
	int fd;
	uint32_t next_stream;
	struct frame_reader reader;
	uint8_t in[4 * FRAME_SIZE_MAX];
};

/* The next frame but hints, which are events of no stream; 0 if none has come whole yet. */
static inline int line_heard(struct line *l, struct frame *f)
{
	struct err e;
	int r;
	do
		r = frame_reader_next(&l->reader, f, &e);
	while (r > 0 && f->type == FRAME_EVENT && f->stream == 0);
	if (r < 0 || (r > 0 && (f->type == FRAME_GOAWAY || f->type == FRAME_RESET)))
		die("malformed, GOAWAY or RESET");
	return r;
}

static inline void line_fill(struct line *l)
{
	if (frame_reader_fill(&l->reader, l->fd) <= 0)
		die("the agent left");
}

static inline struct frame line_next(struct line *l)
{
	struct frame f;
	while (line_heard(l, &f) == 0)
		line_fill(l);
	return f;
}

/* Its stream. */
static inline uint32_t line_send(struct line *l, const ProtobufCMessage *m)
{
	static uint8_t buf[FRAME_SIZE_MAX];
	size_t len = protobuf_c_message_get_packed_size(m), size = message_wire_size(len);
	uint32_t stream = l->next_stream;
	l->next_stream += 2;
	protobuf_c_message_pack(m, buf + size - len);
	message_put_frames(buf, len, stream, FRAME_REQ);
	write_all(l->fd, buf, size);
	return stream;
}

static inline void line_open(struct line *l, const char *where, Tenon__Role role, uint64_t epoch)
{
	uint8_t buf[AGENT_MESSAGE_MAX];
	l->fd = dial(where);
	l->next_stream = 1;
	write_all(l->fd, buf, agent_put_hello(buf, role, epoch));
	frame_reader_init(&l->reader, l->in, sizeof l->in);
	line_next(l);
}

/* Where it was configured before, that is refused, and that is as well. */
static inline void line_configure(struct line *l)
{
	uint8_t buf[AGENT_MESSAGE_MAX];
	write_all(l->fd, buf, agent_put_configure(buf, l->next_stream));
	l->next_stream += 2;
	line_next(l);
}

/* ---- an execution ---- */

struct exec {
	uint8_t id[16];
	uint32_t stream;
	uint64_t at, wanted, credited, expected;
	int left; /* frames that end it: the answer, the exit, two ends */
};

static inline void exec_start(struct line *l, struct exec *x, const char *const *argv, size_t n,
			      uint64_t expected)
{
	*x = (struct exec){.expected = expected, .left = 4};
	if (getrandom(x->id, sizeof x->id, 0) != sizeof x->id)
		die("getrandom");
	ProtobufCBinaryData args[8];
	for (size_t i = 0; i < n; i++)
		args[i] = (ProtobufCBinaryData){strlen(argv[i]), (uint8_t *)argv[i]};
	Tenon__Exec m = TENON__EXEC__INIT;
	m.id = (ProtobufCBinaryData){sizeof x->id, x->id};
	m.n_argv = n;
	m.argv = args;
	m.stdout_limit = m.stderr_limit = EXEC_WINDOW;
	m.answer_late = 1; /* as tenond has it where only the end is waited for */
	Tenon__Request r = TENON__REQUEST__INIT;
	r.op_case = TENON__REQUEST__OP_EXEC;
	r.exec = &m;
	x->stream = line_send(l, &r.base);
}

/* A frame of x: its bytes, or 0 if it is another. */
static inline size_t exec_take(struct exec *x, const struct frame *f, const uint8_t **data)
{
	size_t len = 0;
	if (f->type != FRAME_DATA) {
		if (f->type == FRAME_RSP && x->left < 4)
			die("two answers");
		x->left--;
		return 0;
	}
	*data = frame_data(f, &len);
	x->at += len;
	if (f->flags & FRAME_CREDIT_WANTED)
		x->wanted = x->at;
	return len;
}

static inline void exec_tell(struct line *l, struct exec *x, uint64_t acked)
{
	uint8_t credit[FRAME_SMALL_MAX];
	x->credited = acked;
	write_all(l->fd, credit,
		  frame_put_credit(credit, x->stream, CHANNEL_STDOUT, acked, x->at + EXEC_WINDOW));
}

/* All below acked is kept: CREDIT, if tenond would send one. */
static inline void exec_credit(struct line *l, struct exec *x, uint64_t acked)
{
	if (acked - x->credited >= EXEC_WINDOW / 2 || (x->wanted > x->credited && acked >= x->wanted))
		exec_tell(l, x, acked);
}

static inline void exec_acknowledge(struct line *l, struct exec *x)
{
	if (x->at != x->expected)
		die("bytes are missing");
	if (x->at > x->credited)
		exec_tell(l, x, x->at);
	Tenon__ExecAck ack = TENON__EXEC_ACK__INIT;
	ack.id = (ProtobufCBinaryData){sizeof x->id, x->id};
	Tenon__Request r = TENON__REQUEST__INIT;
	r.op_case = TENON__REQUEST__OP_EXEC_ACK;
	r.exec_ack = &ack;
	line_send(l, &r.base);
	while (line_next(l).type != FRAME_RSP)
		;
}
