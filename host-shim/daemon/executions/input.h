/* The stdin of one execution: bytes queued with absolute offsets until the agent has them in its ring
 * (WIRE.md §4). Knows credits and resending; sends through the function it is given. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "host-shim/daemon/executions/executions.h"

struct input_block {
	STAILQ_ENTRY(input_block) link;
	uint64_t end; /* offset behind its last byte */
	execution_done_fn done;
	void *arg;
	size_t len;
	uint8_t data[];
};

struct input {
	STAILQ_HEAD(, input_block) blocks; /* not wholly acknowledged, in order */
	uint64_t acked, sent, end;         /* acked <= sent <= end */
	uint64_t high;                     /* sent on any connection */
	uint64_t limit;
	bool adopted;  /* acked is the agent's word; before, offsets are relative to 0 */
	bool eof;      /* no more will be queued */
	bool eof_sent; /* on this connection */
	bool closed;   /* the agent takes no more */
	void (*drained)(void *arg);
	void *drained_arg;
};

void input_init(struct input *in);
/* Fails what is queued with f. */
void input_finish(struct input *in, const struct failure *f);

/* Queues a copy; done (may be NULL) when it was acknowledged. Returns false, done not called, if it cannot
 * be. */
bool input_push(struct input *in, const void *data, size_t len, execution_done_fn done, void *arg);
size_t input_queued(const struct input *in);

/* A new stream, and what its ExecState said. -EPROTO if the agent acknowledges what was never sent. */
int input_resume(struct input *in, uint64_t acked, uint64_t limit, bool closed);
/* CREDIT on channel 0. -EPROTO if it acknowledges what was never sent. */
int input_credit(struct input *in, uint64_t acked, uint64_t limit);
/* EOF from the agent: the process took `total` bytes and takes no more. */
int input_close(struct input *in, uint64_t total);

/* The next piece to send, at most max bytes; 0 if credit or queue are at their end. The piece counts as sent.
 */
size_t input_next(struct input *in, size_t max, uint64_t *offset, const uint8_t **data);
/* True once, when the EOF frame with total in->end is due on this connection. */
bool input_eof_due(struct input *in);
