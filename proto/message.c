#include "proto/message.h"

#include <errno.h>
#include <string.h>

void message_joiner_init(struct message_joiner *j, uint8_t *buf, size_t cap)
{
	*j = (struct message_joiner){.buf = buf, .cap = cap};
}

int message_join(struct message_joiner *j, const struct frame *f, struct message *m, struct err *e)
{
	bool joining = j->type != 0;
	if (joining && (f->type != j->type || f->stream != j->stream))
		return err_set(e, "message", EPROTO,
			       "a message on stream %u inside the pieces of another on stream %u", f->stream,
			       j->stream);

	if (!joining && !(f->flags & FRAME_MORE)) {
		*m = (struct message){f->payload, f->len, f->stream, f->type};
		return 1;
	}
	if (f->len > j->cap - j->len)
		return err_set(e, "message", EMSGSIZE, "message on stream %u is over %zu bytes", f->stream,
			       j->cap);
	memcpy(j->buf + j->len, f->payload, f->len);
	j->len += f->len;
	if (f->flags & FRAME_MORE) {
		j->type = f->type;
		j->stream = f->stream;
		return 0;
	}
	*m = (struct message){j->buf, j->len, f->stream, f->type};
	message_joiner_init(j, j->buf, j->cap);
	return 1;
}

static size_t pieces(size_t len)
{
	return len == 0 ? 1 : (len + FRAME_PAYLOAD_MAX - 1) / FRAME_PAYLOAD_MAX;
}

size_t message_wire_size(size_t len)
{
	return len + pieces(len) * FRAME_HEADER_SIZE;
}

void message_put_frames(uint8_t *buf, size_t len, uint32_t stream, enum frame_type type)
{
	/* The message sits at the end, so moving pieces forward in order never overwrites one not yet moved.
	 */
	const uint8_t *from = buf + message_wire_size(len) - len;
	for (;;) {
		size_t n = len < FRAME_PAYLOAD_MAX ? len : FRAME_PAYLOAD_MAX;
		bool more = n < len;
		uint8_t header[FRAME_HEADER_SIZE];
		frame_put_header(header, &(struct frame){.len = (uint32_t)n,
							 .stream = stream,
							 .type = type,
							 .flags = more ? FRAME_MORE : 0});
		memmove(buf + FRAME_HEADER_SIZE, from, n);
		memcpy(buf, header, sizeof header);
		if (!more)
			return;
		buf += FRAME_HEADER_SIZE + n;
		from += n;
		len -= n;
	}
}
