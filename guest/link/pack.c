#include "guest/link/pack.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

bool pack_message(struct sendq *q, uint32_t stream, enum frame_type type, const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	if (len > MESSAGE_FROM_AGENT_MAX)
		return false;
	size_t size = message_wire_size(len);
	uint8_t *p = sendq_reserve(q, size);
	if (!p)
		return false;
	protobuf_c_message_pack(m, p + size - len);
	message_put_frames(p, len, stream, type);
	return true;
}

/* The end of a path says more than its beginning, and an Error has to fit a RESET. */
#define PATH_TOLD 512

void pack_error(Tenon__Error *e, const struct fault *f)
{
	*e = (Tenon__Error)TENON__ERROR__INIT;
	e->code = f->code;
	e->errnum = (uint32_t)f->err.errnum;
	e->message = (char *)f->err.msg;
	if (f->err.stage)
		e->stage = (char *)f->err.stage;
	if (f->field)
		e->field = (char *)f->field;
	if (f->path) {
		size_t len = strlen(f->path), from = len > PATH_TOLD ? len - PATH_TOLD : 0;
		e->path = (ProtobufCBinaryData){len - from, (uint8_t *)f->path + from};
	}
}

bool pack_fault(struct sendq *q, uint32_t stream, enum frame_type reset_or_goaway, const struct fault *f)
{
	Tenon__Error e;
	pack_error(&e, f);
	return pack_message(q, stream, reset_or_goaway, &e.base);
}

bool pack_response_fault(struct sendq *q, uint32_t stream, const struct fault *f)
{
	Tenon__Error e;
	pack_error(&e, f);
	Tenon__Response r = TENON__RESPONSE__INIT;
	r.error = &e;
	return pack_message(q, stream, FRAME_RSP, &r.base);
}

bool pack_done(struct sendq *q, uint32_t stream)
{
	Tenon__Done done = TENON__DONE__INIT;
	Tenon__Response r = TENON__RESPONSE__INIT;
	r.result_case = TENON__RESPONSE__RESULT_DONE;
	r.done = &done;
	return pack_message(q, stream, FRAME_RSP, &r.base);
}

bool pack_hello(struct sendq *q, const Tenon__Hello *hello)
{
	size_t len = tenon__hello__get_packed_size(hello) + FRAME_HELLO_PREFIX;
	uint8_t *p = sendq_reserve(q, FRAME_HEADER_SIZE + len);
	if (!p)
		return false;
	frame_put_header(p, &(struct frame){.len = (uint32_t)len, .type = FRAME_HELLO});
	frame_put_hello_prefix(p + FRAME_HEADER_SIZE);
	tenon__hello__pack(hello, p + FRAME_HEADER_SIZE + FRAME_HELLO_PREFIX);
	return true;
}

void pack_exit(Tenon__ExitRecord *exit, Tenon__Rusage *rusage, const struct exec_row *r)
{
	const struct exec_exit *x = &r->exit;
	*rusage = (Tenon__Rusage)TENON__RUSAGE__INIT;
	rusage->user_us = x->user_us;
	rusage->system_us = x->system_us;
	rusage->max_rss_kib = x->max_rss_kib;
	rusage->minor_faults = x->minor_faults;
	rusage->major_faults = x->major_faults;

	*exit = (Tenon__ExitRecord)TENON__EXIT_RECORD__INIT;
	if (WIFSIGNALED(x->status)) {
		exit->signal = (uint32_t)WTERMSIG(x->status);
		exit->core_dumped = WCOREDUMP(x->status);
	} else {
		exit->code = (uint32_t)WEXITSTATUS(x->status);
	}
	exit->timed_out = x->timed_out;
	exit->oom_killed = x->oom_killed;
	exit->stdout_total = x->total[0];
	exit->stderr_total = x->total[1];
	exit->stdout_open = x->open[0];
	exit->stderr_open = x->open[1];
	exit->rusage = rusage;
	exit->ended_ns = x->ended_real;
	exit->duration_ns = x->ended_mono - r->started_mono;
}

void pack_exec(struct packed_exec *p, const struct exec_row *r, bool fresh)
{
	Tenon__ExecState *s = &p->state;
	*s = (Tenon__ExecState)TENON__EXEC_STATE__INIT;
	s->id = (ProtobufCBinaryData){EXEC_ID_SIZE, (uint8_t *)r->id};
	s->fresh = fresh;
	s->pid = (uint32_t)r->pid;
	s->stdin_acked = r->in.ring.end;
	s->stdin_limit = r->in.told_limit;
	s->stdin_closed = r->in.closed || r->in.eof;
	s->stdout_base = r->out[0].ring.base;
	s->stdout_end = r->out[0].ring.end;
	s->stderr_base = r->out[1].ring.base;
	s->stderr_end = r->out[1].ring.end;
	s->started_ns = r->started_real;
	s->tty = r->tty;
	if (r->state == EXEC_EXITED || r->state == EXEC_ACKED) {
		pack_exit(&p->exit, &p->rusage, r);
		s->exit = &p->exit;
	}
}

static void *bump_allocator_alloc(void *data, size_t size)
{
	return bump_alloc(data, size);
}

static void bump_allocator_free(void *data, void *p)
{
	(void)data;
	(void)p;
}

ProtobufCMessage *pack_unpack(struct bump *b, const ProtobufCMessageDescriptor *type, const uint8_t *data,
			      size_t n)
{
	ProtobufCAllocator a = {bump_allocator_alloc, bump_allocator_free, b};
	return protobuf_c_message_unpack(type, &a, n, data);
}

/* The submessages of a field: how many, and where the first pointer is. */
static size_t submessages(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *d,
			  ProtobufCMessage *const **first)
{
	const uint8_t *base = (const uint8_t *)m;
	if (d->type != PROTOBUF_C_TYPE_MESSAGE)
		return 0;
	if (d->label == PROTOBUF_C_LABEL_REPEATED) {
		*first = *(ProtobufCMessage *const *const *)(base + d->offset);
		return *(const size_t *)(base + d->quantifier_offset);
	}
	bool is_set = !(d->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
		      *(const uint32_t *)(base + d->quantifier_offset) == d->id;
	*first = (ProtobufCMessage *const *)(base + d->offset);
	return is_set && **first ? 1 : 0;
}

uint32_t pack_unknown_field(const ProtobufCMessage *m)
{
	if (m->n_unknown_fields > 0)
		return m->unknown_fields[0].tag;
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		ProtobufCMessage *const *sub = NULL;
		size_t n = submessages(m, &m->descriptor->fields[i], &sub);
		for (size_t k = 0; k < n; k++) {
			uint32_t tag = pack_unknown_field(sub[k]);
			if (tag)
				return tag;
		}
	}
	return 0;
}

int pack_take_request(struct bump *b, const ProtobufCMessageDescriptor *type, const struct message *m,
		      const ProtobufCMessage **req, struct fault *f, struct err *e)
{
	*req = pack_unpack(b, type, m->data, m->len);
	if (!*req && !b->overflowed)
		return err_set(e, "request", EPROTO, "REQ holds no request");
	if (!*req)
		return fault_exhausted(f, NULL, "the request has too many parts to unpack");
	uint32_t unknown = pack_unknown_field(*req);
	if (unknown != 0) {
		fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "field number %u is not known here", unknown);
		return -EOPNOTSUPP;
	}
	return 0;
}
