#include "proto/frame.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const uint8_t hello_magic[4] = {'T', 'N', 'O', 'N'};

/* What a frame of each type may look like: WIRE.md §2 as data. */
enum stream_rule { STREAM_ZERO, STREAM_ODD, STREAM_ANY };
struct type_rule {
	enum stream_rule stream;
	uint32_t len_min, len_max;
	uint8_t flags; /* those allowed, beside FRAME_OPTIONAL */
};
static const struct type_rule rules[] = {
	[FRAME_HELLO] = {STREAM_ZERO, FRAME_HELLO_PREFIX, FRAME_HELLO_MAX, 0},
	[FRAME_REQ] = {STREAM_ODD, 0, FRAME_PAYLOAD_MAX, FRAME_MORE},
	[FRAME_RSP] = {STREAM_ODD, 0, FRAME_PAYLOAD_MAX, FRAME_MORE},
	[FRAME_DATA] = {STREAM_ODD, FRAME_DATA_PREFIX + 1, FRAME_PAYLOAD_MAX,
			FRAME_CHANNEL_MASK | FRAME_CREDIT_WANTED},
	[FRAME_CREDIT] = {STREAM_ODD, 16, 16, FRAME_CHANNEL_MASK},
	[FRAME_GAP] = {STREAM_ODD, 16, 16, FRAME_CHANNEL_MASK},
	[FRAME_EOF] = {STREAM_ODD, 8, 8, FRAME_CHANNEL_MASK},
	[FRAME_RESET] = {STREAM_ODD, 0, FRAME_ERROR_MAX, 0},
	[FRAME_EVENT] = {STREAM_ANY, 0, FRAME_PAYLOAD_MAX, FRAME_MORE},
	[FRAME_PING] = {STREAM_ZERO, 8, 8, 0},
	[FRAME_PONG] = {STREAM_ZERO, 8, 8, 0},
	[FRAME_GOAWAY] = {STREAM_ZERO, 0, FRAME_ERROR_MAX, 0},
};
#define TYPES (sizeof rules / sizeof rules[0])

uint16_t wire_get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

uint32_t wire_get_u32(const uint8_t *p)
{
	return (uint32_t)wire_get_u16(p) | (uint32_t)wire_get_u16(p + 2) << 16;
}

uint64_t wire_get_u64(const uint8_t *p)
{
	return (uint64_t)wire_get_u32(p) | (uint64_t)wire_get_u32(p + 4) << 32;
}

void wire_put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

void wire_put_u32(uint8_t *p, uint32_t v)
{
	wire_put_u16(p, (uint16_t)v);
	wire_put_u16(p + 2, (uint16_t)(v >> 16));
}

void wire_put_u64(uint8_t *p, uint64_t v)
{
	wire_put_u32(p, (uint32_t)v);
	wire_put_u32(p + 4, (uint32_t)(v >> 32));
}

void frame_put_header(uint8_t out[FRAME_HEADER_SIZE], const struct frame *f)
{
	wire_put_u32(out, f->len);
	wire_put_u32(out + 4, f->stream);
	out[8] = f->type;
	out[9] = f->flags;
	wire_put_u16(out + 10, 0);
}

static int check_header(const struct frame *f, uint16_t zero, struct err *e)
{
	if (f->len > FRAME_PAYLOAD_MAX)
		return err_set(e, "frame", EPROTO, "payload of %u bytes is over %u", f->len,
			       FRAME_PAYLOAD_MAX);
	if (zero)
		return err_set(e, "frame", EPROTO, "reserved header field is %u", zero);
	if (f->type == 0 || f->type >= TYPES) {
		if (f->type == 0 || !(f->flags & FRAME_OPTIONAL))
			return err_set(e, "frame", EPROTO, "unknown frame type %u", f->type);
		return 0;
	}

	const struct type_rule *r = &rules[f->type];
	if (f->flags & ~(r->flags | FRAME_OPTIONAL))
		return err_set(e, "frame", EPROTO, "flags 0x%02x on a frame of type %u", f->flags, f->type);
	if ((r->flags & FRAME_CHANNEL_MASK) && frame_channel(f) > CHANNEL_STDERR)
		return err_set(e, "frame", EPROTO, "channel 3 on a frame of type %u", f->type);
	if (f->len < r->len_min || f->len > r->len_max)
		return err_set(e, "frame", EPROTO, "payload of %u bytes on a frame of type %u", f->len,
			       f->type);
	if ((f->flags & FRAME_MORE) && f->len == 0)
		return err_set(e, "frame", EPROTO, "an empty piece of a message");
	bool zero_ok = r->stream != STREAM_ODD, odd_ok = r->stream != STREAM_ZERO;
	if (!(f->stream == 0 ? zero_ok : (f->stream & 1) && odd_ok))
		return err_set(e, "frame", EPROTO, "stream %u on a frame of type %u", f->stream, f->type);
	return 0;
}

static int check_payload(const struct frame *f, struct err *e)
{
	switch (f->type) {
	case FRAME_DATA:
	case FRAME_EOF:
		if (frame_offset(f) >= WIRE_OFFSET_END - FRAME_PAYLOAD_MAX)
			return err_set(e, "frame", EPROTO, "offset beyond 2^62");
		return 0;
	case FRAME_CREDIT:
		if (frame_pair(f).b >= WIRE_OFFSET_END)
			return err_set(e, "frame", EPROTO, "CREDIT beyond 2^62");
		if (frame_pair(f).a > frame_pair(f).b)
			return err_set(e, "frame", EPROTO, "CREDIT acknowledges beyond its limit");
		return 0;
	case FRAME_GAP:
		if (frame_channel(f) == CHANNEL_STDIN)
			return err_set(e, "frame", EPROTO, "GAP on stdin");
		if (frame_pair(f).b >= WIRE_OFFSET_END)
			return err_set(e, "frame", EPROTO, "GAP beyond 2^62");
		if (frame_pair(f).a >= frame_pair(f).b)
			return err_set(e, "frame", EPROTO, "GAP is empty or backwards");
		return 0;
	default:
		return 0;
	}
}

ssize_t frame_decode(const uint8_t *buf, size_t n, struct frame *f, struct err *e)
{
	if (n < FRAME_HEADER_SIZE)
		return 0;
	*f = (struct frame){
		.len = wire_get_u32(buf),
		.stream = wire_get_u32(buf + 4),
		.type = buf[8],
		.flags = buf[9],
		.payload = buf + FRAME_HEADER_SIZE,
	};
	int r = check_header(f, wire_get_u16(buf + 10), e);
	if (r < 0)
		return r;
	if (n - FRAME_HEADER_SIZE < f->len)
		return 0;
	r = check_payload(f, e);
	if (r < 0)
		return r;
	return (ssize_t)(FRAME_HEADER_SIZE + f->len);
}

uint64_t frame_offset(const struct frame *f)
{
	return wire_get_u64(f->payload);
}

const uint8_t *frame_data(const struct frame *f, size_t *len)
{
	*len = f->len - FRAME_DATA_PREFIX;
	return f->payload + FRAME_DATA_PREFIX;
}

struct frame_pair frame_pair(const struct frame *f)
{
	return (struct frame_pair){wire_get_u64(f->payload), wire_get_u64(f->payload + 8)};
}

static size_t put_pair(uint8_t *out, uint32_t stream, enum frame_type type, enum frame_channel c, uint64_t a,
		       uint64_t b)
{
	frame_put_header(out, &(struct frame){.len = 16, .stream = stream, .type = type, .flags = c});
	wire_put_u64(out + FRAME_HEADER_SIZE, a);
	wire_put_u64(out + FRAME_HEADER_SIZE + 8, b);
	return FRAME_HEADER_SIZE + 16;
}

size_t frame_put_credit(uint8_t *out, uint32_t stream, enum frame_channel c, uint64_t acked, uint64_t limit)
{
	return put_pair(out, stream, FRAME_CREDIT, c, acked, limit);
}

size_t frame_put_gap(uint8_t *out, uint32_t stream, enum frame_channel c, uint64_t from, uint64_t to)
{
	return put_pair(out, stream, FRAME_GAP, c, from, to);
}

size_t frame_put_eof(uint8_t *out, uint32_t stream, enum frame_channel c, uint64_t total)
{
	frame_put_header(out, &(struct frame){.len = 8, .stream = stream, .type = FRAME_EOF, .flags = c});
	wire_put_u64(out + FRAME_HEADER_SIZE, total);
	return FRAME_HEADER_SIZE + 8;
}

size_t frame_put_ping(uint8_t *out, enum frame_type ping_or_pong, const uint8_t body[8])
{
	frame_put_header(out, &(struct frame){.len = 8, .type = ping_or_pong});
	memcpy(out + FRAME_HEADER_SIZE, body, 8);
	return FRAME_HEADER_SIZE + 8;
}

size_t frame_put_data_head(uint8_t out[FRAME_DATA_HEAD], uint32_t stream, enum frame_channel c,
			   uint64_t offset, size_t len)
{
	frame_put_header(out, &(struct frame){.len = (uint32_t)(FRAME_DATA_PREFIX + len),
					      .stream = stream,
					      .type = FRAME_DATA,
					      .flags = c});
	wire_put_u64(out + FRAME_HEADER_SIZE, offset);
	return FRAME_DATA_HEAD;
}

void frame_put_hello_prefix(uint8_t out[FRAME_HELLO_PREFIX])
{
	memcpy(out, hello_magic, sizeof hello_magic);
	wire_put_u16(out + 4, WIRE_GENERATION);
	wire_put_u16(out + 6, 0);
}

int frame_get_hello_prefix(const struct frame *f, struct err *e)
{
	if (memcmp(f->payload, hello_magic, sizeof hello_magic) != 0)
		return err_set(e, "hello", EPROTO, "HELLO has the wrong magic: not a tenon peer");
	uint16_t generation = wire_get_u16(f->payload + 4);
	if (generation == 0)
		return err_set(e, "hello", EPROTO, "HELLO names generation 0");
	return generation;
}

void frame_reader_init(struct frame_reader *r, uint8_t *buf, size_t cap)
{
	*r = (struct frame_reader){.buf = buf, .cap = cap};
}

uint8_t *frame_reader_space(struct frame_reader *r, size_t *len)
{
	if (r->start > 0) {
		memmove(r->buf, r->buf + r->start, r->end - r->start);
		r->end -= r->start;
		r->start = 0;
	}
	*len = r->cap - r->end;
	return r->buf + r->end;
}

void frame_reader_commit(struct frame_reader *r, size_t n)
{
	r->end += n;
}

ssize_t frame_reader_fill(struct frame_reader *r, int fd)
{
	size_t room;
	uint8_t *space = frame_reader_space(r, &room);
	ssize_t n;
	do
		n = read(fd, space, room);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	frame_reader_commit(r, (size_t)n);
	return n;
}

int frame_reader_next(struct frame_reader *r, struct frame *f, struct err *e)
{
	ssize_t size = frame_decode(r->buf + r->start, r->end - r->start, f, e);
	if (size < 0)
		return (int)size;
	r->start += (size_t)size;
	return size > 0;
}
