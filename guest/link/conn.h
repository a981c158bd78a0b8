/* One connection: its socket, what comes in, what waits to go out. Knows frames, not what they mean. */
#pragma once

#include <stdbool.h>
#include <sys/uio.h>

#include "guest/link/sendq.h"
#include "guest/loop.h"
#include "proto/frame.h"
#include "proto/message.h"

#define CONN_READ_BUFFER (2 * 65536 + 4096) /* more than FRAME_SIZE_MAX */
#define CONN_QUEUE (768 * 1024)
#define CONN_MEMORY (CONN_READ_BUFFER + MESSAGE_MAX + CONN_QUEUE)

enum conn_state {
	CONN_CLOSED,
	CONN_GREETING, /* the host's HELLO is due */
	CONN_MAIN,
};

struct conn {
	struct loop *loop;
	struct source source;
	struct timer greeting_deadline;
	enum conn_state state;
	int fd;
	bool readable, hung_up, writable;
	uint8_t *memory; /* CONN_MEMORY, for the buffers below */
	struct frame_reader reader;
	struct message_joiner joiner;
	struct sendq out;
	size_t late;          /* bytes of out, if those are all, that may wait for what comes next */
	uint32_t last_stream; /* the highest REQ */
	bool pong_due;
	uint8_t pong[8];
	uint64_t opened; /* CLOCK_MONOTONIC */
};

/* Takes fd (non-blocking), watches it, empties the buffers. -errno if it cannot be watched; fd is then the
 * caller's. */
int conn_open(struct conn *c, int fd, void (*deadline)(struct timer *), uint64_t at);
void conn_close(struct conn *c);

/* The next frame, reading when the buffer has none: 1 with *f, 0 if there is none now, -ECONNRESET at the end
 * of the stream or on an error of the socket, -EPROTO with *e. */
int conn_next(struct conn *c, struct frame *f, struct err *e);

/* Writes the queue and then n pieces; what the socket did not take of the pieces is queued, for which the
 * caller left room. Returns 0, or -errno when the connection is dead. */
#define CONN_PIECES 64
int conn_send(struct conn *c, const struct iovec *pieces, int n);
