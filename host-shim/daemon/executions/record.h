/* The bytes of the execution log (WIRE.md §7): segment and record headers, and the rule by which one record
 * follows another. No I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

#define LOG_SEGMENT_HEADER 64
#define LOG_RECORD_HEADER 40
#define LOG_PAYLOAD_MAX (256u << 10) /* of data */
#define LOG_EXIT_MAX 4096
#define LOG_ID_SIZE 16

enum record_kind { RECORD_DATA = 1, RECORD_GAP = 2, RECORD_EOF = 3, RECORD_EXIT = 4 };

struct segment_header {
	uint8_t id[LOG_ID_SIZE];
	uint64_t position;
	uint64_t stdout_offset, stderr_offset;
	uint64_t created_ns;
};

struct record {
	uint32_t len;
	uint8_t kind;
	uint8_t channel;
	uint64_t offset;
	uint64_t position;
	uint64_t time_ns;
};

/* A place in a log: how far each channel has come and what has been recorded by then. */
struct log_point {
	uint64_t offset[3]; /* by channel; [0] is unused */
	bool eof[3];
	bool exit;
};

static inline uint64_t log_point_position(const struct log_point *p)
{
	return p->offset[CHANNEL_STDOUT] + p->offset[CHANNEL_STDERR];
}

void segment_put_header(uint8_t out[LOG_SEGMENT_HEADER], const struct segment_header *h);
/* -EBADMSG if magic, crc or arithmetic do not hold. */
int segment_get_header(const uint8_t in[LOG_SEGMENT_HEADER], struct segment_header *h);

void record_put_header(uint8_t out[LOG_RECORD_HEADER], const struct record *r);
/* Checks the crc and everything a record says by itself: kind, channel, len. -EBADMSG if it does not hold. */
int record_get_header(const uint8_t in[LOG_RECORD_HEADER], struct record *r);

/* Moves *p past record r, whose payload (r->len bytes; not looked at if it is data) is at `payload`.
 * -EBADMSG, *p unmoved, if r does not follow from *p: another position or offset, data or eof after eof, a
 * second exit, a gap that goes backwards. */
int log_point_pass(struct log_point *p, const struct record *r, const uint8_t *payload);
