/* The frame codec of WIRE.md §2, shared by guest and host. It allocates nothing and does no I/O beyond one
 * read(2) in frame_reader_fill: callers own every buffer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/err.h"

#define WIRE_GENERATION 1
#define WIRE_FEATURE_ANSWER_LATE 1   /* bits of Hello.features */
#define WIRE_FEATURE_CREDIT_WANTED 2 /* likewise */
#define WIRE_PORT_AGENT 1000         /* the agent's vsock listener */
#define WIRE_PORT_DOORBELL 1001      /* the host's, dialled once by the agent */

#define FRAME_HEADER_SIZE 12
#define FRAME_PAYLOAD_MAX 65536
#define FRAME_SIZE_MAX (FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX)
#define FRAME_DATA_PREFIX 8 /* the u64 offset that leads a DATA payload */
#define FRAME_DATA_MAX (FRAME_PAYLOAD_MAX - FRAME_DATA_PREFIX)
/* What our senders put into one: the whole frame is then 64 KiB, the most that Linux sends as one packet of
 * vsock. Its last bytes would else go in a packet of their own, which costs as much as the first. */
#define FRAME_DATA_FULL (FRAME_DATA_MAX - FRAME_HEADER_SIZE)
#define FRAME_HELLO_MAX 4096
#define FRAME_HELLO_PREFIX 8
#define FRAME_ERROR_MAX 1024                /* payload of RESET and GOAWAY */
#define MESSAGE_MAX (1024 * 1024)           /* to the agent */
#define MESSAGE_FROM_AGENT_MAX (256 * 1024) /* from it */
#define WIRE_OFFSET_END (UINT64_C(1) << 62) /* every offset is below, so sums cannot wrap */

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_REQ = 2,
	FRAME_RSP = 3,
	FRAME_DATA = 4,
	FRAME_CREDIT = 5,
	FRAME_GAP = 6,
	FRAME_EOF = 7,
	FRAME_RESET = 8,
	FRAME_EVENT = 9,
	FRAME_PING = 10,
	FRAME_PONG = 11,
	FRAME_GOAWAY = 12,
};

enum frame_channel {
	CHANNEL_STDIN = 0,
	CHANNEL_STDOUT = 1,
	CHANNEL_STDERR = 2,
};

#define FRAME_CHANNEL_MASK 0x03
#define FRAME_CREDIT_WANTED 0x20
#define FRAME_MORE 0x40
#define FRAME_OPTIONAL 0x80

/* One frame. `payload` points into the buffer it was decoded from and is valid until that buffer changes. */
struct frame {
	uint32_t len; /* bytes of payload */
	uint32_t stream;
	uint8_t type; /* enum frame_type, or unknown with FRAME_OPTIONAL set */
	uint8_t flags;
	const uint8_t *payload;
};

/* The two u64 of a CREDIT (acked, limit) or a GAP (from, to). */
struct frame_pair {
	uint64_t a, b;
};

/* Little-endian scalars at any alignment. */
uint16_t wire_get_u16(const uint8_t *p);
uint32_t wire_get_u32(const uint8_t *p);
uint64_t wire_get_u64(const uint8_t *p);
void wire_put_u16(uint8_t *p, uint16_t v);
void wire_put_u32(uint8_t *p, uint32_t v);
void wire_put_u64(uint8_t *p, uint64_t v);

/* Writes the 12-byte header of *f to out; the payload is not touched. */
void frame_put_header(uint8_t out[FRAME_HEADER_SIZE], const struct frame *f);

/* Decodes one whole frame from buf[0..n) and checks everything that WIRE.md §2 says of a frame by itself:
 * length per type, flags, channel, stream parity, the zero field, offsets in range, from < to, acked <=
 * limit. Not what depends on who speaks (directions) or on state. Returns its size in bytes (header and
 * payload), 0 if n is too short to tell, or -EPROTO with *e saying what is malformed; a bad header is
 * reported before its payload arrives. *f points into buf. */
ssize_t frame_decode(const uint8_t *buf, size_t n, struct frame *f, struct err *e);

/* The channel of a DATA, CREDIT, GAP or EOF frame. */
static inline enum frame_channel frame_channel(const struct frame *f)
{
	return (enum frame_channel)(f->flags & FRAME_CHANNEL_MASK);
}

/* Payload accessors, for frames that frame_decode accepted as that type. */
uint64_t frame_offset(const struct frame *f); /* DATA: offset of its first byte; EOF: the total */
const uint8_t *frame_data(const struct frame *f, size_t *len);
struct frame_pair frame_pair(const struct frame *f);

/* Whole small frames. out must hold the size returned (FRAME_SMALL_MAX suffices). */
#define FRAME_SMALL_MAX (FRAME_HEADER_SIZE + 16)
size_t frame_put_credit(uint8_t *out, uint32_t stream, enum frame_channel c, uint64_t acked, uint64_t limit);
size_t frame_put_gap(uint8_t *out, uint32_t stream, enum frame_channel c, uint64_t from, uint64_t to);
size_t frame_put_eof(uint8_t *out, uint32_t stream, enum frame_channel c, uint64_t total);
size_t frame_put_ping(uint8_t *out, enum frame_type ping_or_pong, const uint8_t body[8]);

/* Header and offset of a DATA frame that carries len bytes (1 to FRAME_DATA_MAX); the bytes follow, usually
 * by writev. Returns FRAME_HEADER_SIZE + FRAME_DATA_PREFIX. */
#define FRAME_DATA_HEAD (FRAME_HEADER_SIZE + FRAME_DATA_PREFIX)
size_t frame_put_data_head(uint8_t out[FRAME_DATA_HEAD], uint32_t stream, enum frame_channel c,
			   uint64_t offset, size_t len);
/* Sets a flag in a header that was put. */
static inline void frame_add_flag(uint8_t head[FRAME_HEADER_SIZE], uint8_t flag)
{
	head[9] |= flag;
}

/* The 8 bytes before a Hello message. */
void frame_put_hello_prefix(uint8_t out[FRAME_HELLO_PREFIX]);
/* Checks the magic and returns the peer's generation (>= 1), or -EPROTO. */
int frame_get_hello_prefix(const struct frame *f, struct err *e);

/* Reassembles frames from a byte stream into a buffer the caller owns. */
struct frame_reader {
	uint8_t *buf;
	size_t cap; /* at least FRAME_SIZE_MAX */
	size_t start, end;
};

void frame_reader_init(struct frame_reader *r, uint8_t *buf, size_t cap);
/* The free tail, for a caller that reads by itself (libuv); moves what is pending to the front first, which
 * invalidates frames handed out before. Never empty once frame_reader_next has returned 0. */
uint8_t *frame_reader_space(struct frame_reader *r, size_t *len);
/* n bytes were put into that space. */
void frame_reader_commit(struct frame_reader *r, size_t n);
/* One read(2) from fd into the space. Returns bytes, 0 at end of stream, or -errno (-EAGAIN included). */
ssize_t frame_reader_fill(struct frame_reader *r, int fd);
/* The next whole frame: 1 with *f filled, 0 if more bytes are needed, -EPROTO if malformed (for ever after).
 */
int frame_reader_next(struct frame_reader *r, struct frame *f, struct err *e);
