#include "host-shim/daemon/executions/record.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

static const uint8_t segment_magic[8] = {'T', 'N', 'L', 'O', 'G', '1', '\r', '\n'};

static uint32_t checksum(const uint8_t *p, size_t n)
{
	return (uint32_t)crc32(0, p, (uInt)n);
}

void segment_put_header(uint8_t out[LOG_SEGMENT_HEADER], const struct segment_header *h)
{
	memcpy(out, segment_magic, sizeof segment_magic);
	memcpy(out + 8, h->id, LOG_ID_SIZE);
	wire_put_u64(out + 24, h->position);
	wire_put_u64(out + 32, h->stdout_offset);
	wire_put_u64(out + 40, h->stderr_offset);
	wire_put_u64(out + 48, h->created_ns);
	wire_put_u32(out + 56, 0);
	wire_put_u32(out + 60, checksum(out, 60));
}

int segment_get_header(const uint8_t in[LOG_SEGMENT_HEADER], struct segment_header *h)
{
	if (memcmp(in, segment_magic, sizeof segment_magic) != 0 || wire_get_u32(in + 56) != 0 ||
	    wire_get_u32(in + 60) != checksum(in, 60))
		return -EBADMSG;
	memcpy(h->id, in + 8, LOG_ID_SIZE);
	h->position = wire_get_u64(in + 24);
	h->stdout_offset = wire_get_u64(in + 32);
	h->stderr_offset = wire_get_u64(in + 40);
	h->created_ns = wire_get_u64(in + 48);
	bool sane = h->stdout_offset < WIRE_OFFSET_END && h->stderr_offset < WIRE_OFFSET_END &&
		    h->position == h->stdout_offset + h->stderr_offset;
	return sane ? 0 : -EBADMSG;
}

void record_put_header(uint8_t out[LOG_RECORD_HEADER], const struct record *r)
{
	wire_put_u32(out + 4, r->len);
	out[8] = r->kind;
	out[9] = r->channel;
	wire_put_u16(out + 10, 0);
	wire_put_u32(out + 12, 0);
	wire_put_u64(out + 16, r->offset);
	wire_put_u64(out + 24, r->position);
	wire_put_u64(out + 32, r->time_ns);
	wire_put_u32(out, checksum(out + 4, LOG_RECORD_HEADER - 4));
}

static bool shape_holds(const struct record *r)
{
	bool output = r->channel == CHANNEL_STDOUT || r->channel == CHANNEL_STDERR;
	switch (r->kind) {
	case RECORD_DATA:
		return output && r->len >= 1 && r->len <= LOG_PAYLOAD_MAX;
	case RECORD_GAP:
		return output && r->len == 8;
	case RECORD_EOF:
		return output && r->len == 0;
	case RECORD_EXIT:
		return r->channel == 0 && r->len <= LOG_EXIT_MAX && r->offset == 0;
	default:
		return false;
	}
}

int record_get_header(const uint8_t in[LOG_RECORD_HEADER], struct record *r)
{
	if (wire_get_u32(in) != checksum(in + 4, LOG_RECORD_HEADER - 4) || wire_get_u16(in + 10) != 0 ||
	    wire_get_u32(in + 12) != 0)
		return -EBADMSG;
	*r = (struct record){
		.len = wire_get_u32(in + 4),
		.kind = in[8],
		.channel = in[9],
		.offset = wire_get_u64(in + 16),
		.position = wire_get_u64(in + 24),
		.time_ns = wire_get_u64(in + 32),
	};
	return shape_holds(r) ? 0 : -EBADMSG;
}

int log_point_pass(struct log_point *p, const struct record *r, const uint8_t *payload)
{
	if (r->position != log_point_position(p))
		return -EBADMSG;
	if (r->kind == RECORD_EXIT) {
		if (p->exit)
			return -EBADMSG;
		p->exit = true;
		return 0;
	}

	if (r->offset != p->offset[r->channel] || p->eof[r->channel])
		return -EBADMSG;
	uint64_t end = r->offset;
	if (r->kind == RECORD_DATA)
		end += r->len;
	else if (r->kind == RECORD_GAP)
		end = wire_get_u64(payload);
	if (end >= WIRE_OFFSET_END || (r->kind == RECORD_GAP && end <= r->offset))
		return -EBADMSG;
	p->offset[r->channel] = end;
	p->eof[r->channel] = r->kind == RECORD_EOF;
	return 0;
}
