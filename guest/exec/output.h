/* stdout or stderr of one execution, from its pipe or terminal to the host (WIRE.md §4): what is read, sent,
 * acknowledged. Knows neither frames nor connections. */
#pragma once

#include <stdbool.h>

#include "guest/exec/ring.h"

/* base <= end; acked <= sent <= end. base is acked, unless drop_oldest went past it; sent may lie below base:
 * a gap is due. */
struct exec_output {
	struct ring ring;
	uint64_t acked;   /* in the host's log, for the life of the row */
	uint64_t sent;    /* handed to the stream */
	uint64_t limit;   /* of the stream's credit */
	int fd;           /* read end, -1 once ended */
	bool readable;    /* may have something: epoll said so, and no read has come up short since */
	bool hung_up;     /* the last writer is gone: no further edge will come, so read on to the end */
	bool eof;         /* the ring's end is the end */
	bool eof_sent;    /* on this stream */
	bool asked;       /* for credit, since it last came */
	uint32_t starved; /* CREDITs in a row that found the ring full and all of it sent */
};

/* How a channel is read; bits. */
enum exec_output_how {
	OUTPUT_DROP_OLDEST = 1 << 0, /* a full ring drops its oldest quarter first */
	OUTPUT_TTY =
		1 << 1, /* fd is a terminal's master: a read gives less than there is, and EIO is the end */
	OUTPUT_TTY_LED = 1 << 2, /* but not yet: its session's leader lives, and may open it again */
};

/* One read of what the pipe has into what the ring takes. Returns true if there are new bytes or the end. At
 * the end eof is set; closing fd is the caller's. */
bool exec_output_read(struct exec_output *o, uint8_t *mem, unsigned how);

/* Whether nothing but the ring keeps it from reading on: there is more, and credit for it. */
bool exec_output_cramped(const struct exec_output *o);

/* Whether to ask for credit, which is done once until it comes: what was sent and is not in the host's log
 * yet fills half of the ring. What is not sent does not count: credit does not hasten it, and each is a
 * packet that interrupts what sends it. */
bool exec_output_asks_credit(struct exec_output *o);

/* The host's CREDIT. Returns 0, or -EPROTO if it acknowledges what does not exist. */
int exec_output_credit(struct exec_output *o, uint64_t acked, uint64_t limit);

/* A new stream whose host has everything below `host_end` (<= ring.end). */
void exec_output_attach(struct exec_output *o, uint64_t host_end, uint64_t limit);

enum exec_chunk_kind { CHUNK_NONE, CHUNK_GAP, CHUNK_DATA, CHUNK_EOF };
struct exec_chunk {
	enum exec_chunk_kind kind;
	uint64_t from, to; /* GAP and DATA: [from, to); EOF: to is the total */
};

/* What the stream gets next, counted as sent; at most FRAME_DATA_FULL bytes. */
struct exec_chunk exec_output_next(struct exec_output *o);

/* Whether exec_output_next has something; and something other than the end. */
bool exec_output_ready(const struct exec_output *o);
bool exec_output_has_bytes(const struct exec_output *o);

/* Ended, credited to the end and, with a stream, its EOF sent. */
bool exec_output_drained(const struct exec_output *o, bool has_stream);

/* Bytes written into the pipe so far, read or not, and whether somebody can write more. What a terminal holds
 * cannot be counted. */
#define OUTPUT_TOTAL_UNKNOWN UINT64_MAX
uint64_t exec_output_total(const struct exec_output *o, unsigned how, bool *open);
