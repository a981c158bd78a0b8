/* Messages into a send queue and out of frames, without malloc. */
#pragma once

#include <stdbool.h>

#include "guest/exec/table.h"
#include "guest/fault.h"
#include "guest/link/sendq.h"
#include "guest/memory.h"
#include "proto/frame.h"
#include "proto/message.h"

/* A control frame with an Error in it, an exec's answer or exit event: none is larger. */
#define PACK_SMALL_MAX 2048

/* An Error that points into *f. */
void pack_error(Tenon__Error *e, const struct fault *f);

/* Packs and queues. False if it is too long for its kind or the queue has no room. */
bool pack_message(struct sendq *q, uint32_t stream, enum frame_type type, const ProtobufCMessage *m);
bool pack_fault(struct sendq *q, uint32_t stream, enum frame_type reset_or_goaway, const struct fault *f);
bool pack_response_fault(struct sendq *q, uint32_t stream, const struct fault *f);
bool pack_done(struct sendq *q, uint32_t stream);
bool pack_hello(struct sendq *q, const Tenon__Hello *hello);

/* A row as the wire has it. The messages point into each other and into the row. */
struct packed_exec {
	Tenon__ExecState state;
	Tenon__ExitRecord exit;
	Tenon__Rusage rusage;
};
void pack_exec(struct packed_exec *p, const struct exec_row *r, bool fresh);
void pack_exit(Tenon__ExitRecord *exit, Tenon__Rusage *rusage, const struct exec_row *r);

/* Unpacks into the bump allocator; NULL if malformed, or if b->overflowed. Valid until *b is used for
 * something else. */
ProtobufCMessage *pack_unpack(struct bump *b, const ProtobufCMessageDescriptor *type, const uint8_t *data,
			      size_t n);

/* A REQ's message of the given type, in *b: 0 with *req. -EPROTO with *e: it is none. Another -errno with *f:
 * to be refused, for too many parts or for a field that this build does not know. */
int pack_take_request(struct bump *b, const ProtobufCMessageDescriptor *type, const struct message *m,
		      const ProtobufCMessage **req, struct fault *f, struct err *e);

/* The number of a field that this build does not know, anywhere in the message; 0 if there is none. */
uint32_t pack_unknown_field(const ProtobufCMessage *m);
