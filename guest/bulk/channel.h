/* A worker's end of a bulk connection (WIRE.md §6): frames by blocking calls, one operation after another.
 * Everything that is long or may block runs on top of this, in a process of its own. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/fault.h"
#include "guest/memory.h"
#include "proto/bulk.pb-c.h"
#include "proto/frame.h"
#include "proto/message.h"

struct channel {
	int fd; /* non-blocking; the calls below wait */
	struct frame_reader reader;
	struct message_joiner joiner;
	struct bump scratch; /* the request is unpacked here */
	uint8_t *scratch_memory;
	uint8_t *out;      /* one message being put together */
	uint8_t *gathered; /* n_gathered bytes for the next frame, of less than FRAME_DATA_FULL */
	size_t n_gathered;
	uint32_t stream;       /* of the operation */
	bool answered;         /* its RSP is out */
	bool host_ended;       /* the host's EOF or RESET is here: it sends no more for this operation */
	uint64_t taken, given; /* bytes of DATA, from the host and to it */
};

/* Takes fd; pending: what was already read from it. 0, or -ENOMEM. */
int channel_init(struct channel *ch, int fd, const uint8_t *pending, size_t n);

/* The next operation: 1 with *req (valid until the next call), 0 if the host has left or said nothing for
 * five minutes, -EPROTO after GOAWAY. What the host still sends for the operation before is thrown away. Bad
 * requests are answered here and skipped. */
int channel_next(struct channel *ch, const Tenon__BulkRequest **req);

/* The operation's RSP. All of these return 0, or -errno when the connection is dead, which ends the worker.
 */
int channel_answer(struct channel *ch, const Tenon__BulkResponse *r);
int channel_answer_done(struct channel *ch);

/* n bytes (any number) as DATA. */
int channel_give(struct channel *ch, const void *bytes, size_t n);
/* The same in full frames alone: what does not fill one waits for more, or for channel_flush. */
int channel_gather(struct channel *ch, const void *bytes, size_t n);
int channel_flush(struct channel *ch);
/* At most 64 KiB packed. */
int channel_give_event(struct channel *ch, const Tenon__BulkEvent *event);
/* EOF{total}. */
int channel_end(struct channel *ch, uint64_t total);

/* The host's next bytes: their number (at most FRAME_DATA_MAX) with *bytes, valid until the next call; 0 at
 * its EOF; -ECANCELED if it gives the operation up; -EPROTO, -ETIMEDOUT or -errno if the connection is dead.
 */
ssize_t channel_take(struct channel *ch, const uint8_t **bytes);

/* The operation failed: an error RSP, or RESET if it was answered. */
int channel_fail(struct channel *ch, const struct fault *f);

/* ---- for operations that watch more than the host's bytes ---- */

/* Whether something is half done: while IDLE a TERM, which is what shutdown sends, may end this process. */
enum channel_mood { CHANNEL_IDLE, CHANNEL_BUSY };

/* poll(2) that goes on after signals. ms < 0: no limit. 0, -ETIMEDOUT or -errno. */
int channel_wait(struct pollfd *fds, int n, int ms, enum channel_mood mood);

/* The next frame whatever it is: 0 with *f, -ECONNRESET at the end, -EPROTO after GOAWAY, -ETIMEDOUT. Does
 * not wait if one is in the buffer or the socket. */
int channel_frame(struct channel *ch, struct frame *f, enum channel_mood mood);
/* The same without waiting: -EAGAIN if none is there. */
int channel_try_frame(struct channel *ch, struct frame *f);

/* A frame of an unknown type that the host allows to be skipped. */
static inline bool channel_skips(const struct frame *f)
{
	return f->type > FRAME_GOAWAY;
}

/* Bytes of frames that the caller has put together by itself. */
int channel_send(struct channel *ch, const void *bytes, size_t n);

/* What channel_take makes of a frame. */
ssize_t channel_accept(struct channel *ch, const struct frame *f, const uint8_t **bytes);
