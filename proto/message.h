/* Control messages over frames (WIRE.md §2, MORE): pieces joined on the way in, cut on the way out.
 * Knows nothing of what the messages mean. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"
#include "proto/frame.h"

/* Joins the pieces of one message per direction of a connection. The buffer is the caller's and is touched
 * only by messages that come in more than one frame. */
struct message_joiner {
	uint8_t *buf;
	size_t cap; /* MESSAGE_MAX, or less to accept less */
	size_t len;
	uint32_t stream; /* of the message in pieces; 0 with type 0: none */
	uint8_t type;
};

/* A whole message: points into the frame or into the joiner's buffer, valid until either changes. */
struct message {
	const uint8_t *data;
	size_t len;
	uint32_t stream;
	uint8_t type; /* FRAME_REQ, FRAME_RSP or FRAME_EVENT */
};

void message_joiner_init(struct message_joiner *j, uint8_t *buf, size_t cap);

/* Takes a REQ, RSP or EVENT frame. Returns 1 with *m filled when a message is complete, 0 when more pieces
 * are due, -EPROTO if a second message starts in between, -EMSGSIZE if it outgrows the buffer. */
int message_join(struct message_joiner *j, const struct frame *f, struct message *m, struct err *e);

/* Bytes that a message of len bytes takes on the wire with its frame headers. */
size_t message_wire_size(size_t len);

/* Turns a packed message into its frames in place: buf holds len message bytes at buf +
 * message_wire_size(len) - len (that is, at its end) and receives the frames from buf[0] on. len is at most
 * MESSAGE_MAX. */
void message_put_frames(uint8_t *buf, size_t len, uint32_t stream, enum frame_type type);
