/* The frame codec on whatever arrives, in pieces of any size. What it accepts must keep WIRE.md's promises.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/message.h"

static void check(const struct frame *f)
{
	if (f->len > FRAME_PAYLOAD_MAX)
		abort();
	size_t n;
	switch (f->type) {
	case FRAME_DATA:
		frame_data(f, &n);
		if (n == 0 || n > FRAME_DATA_MAX || frame_offset(f) + n >= WIRE_OFFSET_END)
			abort();
		break;
	case FRAME_CREDIT:
		if (frame_pair(f).a > frame_pair(f).b || frame_pair(f).b >= WIRE_OFFSET_END)
			abort();
		break;
	case FRAME_GAP:
		if (frame_pair(f).a >= frame_pair(f).b || frame_channel(f) == CHANNEL_STDIN)
			abort();
		break;
	case FRAME_HELLO:
		frame_get_hello_prefix(f, NULL);
		break;
	default:
		break;
	}
}

/* The first byte says how the rest is cut. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[FRAME_SIZE_MAX], joined[3 * FRAME_PAYLOAD_MAX];
	if (size == 0)
		return 0;
	size_t piece = data[0] == 0 ? size : data[0];
	struct frame_reader r;
	struct message_joiner j;
	frame_reader_init(&r, buf, sizeof buf);
	message_joiner_init(&j, joined, sizeof joined);
	for (size_t at = 1; at < size;) {
		size_t room, n = size - at < piece ? size - at : piece;
		uint8_t *space = frame_reader_space(&r, &room);
		if (room == 0)
			abort(); /* a whole frame fits, so it cannot be full of an unfinished one */
		n = n < room ? n : room;
		memcpy(space, data + at, n);
		frame_reader_commit(&r, n);
		at += n;

		struct frame f;
		struct err e;
		int got;
		while ((got = frame_reader_next(&r, &f, &e)) == 1) {
			check(&f);
			struct message m;
			bool is_message = f.type == FRAME_REQ || f.type == FRAME_RSP || f.type == FRAME_EVENT;
			if (is_message && message_join(&j, &f, &m, &e) < 0)
				return 0;
		}
		if (got < 0)
			return 0;
	}
	return 0;
}
