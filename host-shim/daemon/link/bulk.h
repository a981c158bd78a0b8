/* The host's end of one bulk connection and its one operation (WIRE.md §6): files, ports, metrics. On the
 * loop thread, and never waiting. The agent's side is one worker's, and hostile: what is malformed ends this
 * connection and nothing else.
 *
 * Its owner asks for items, as from an execution's reader: what came is kept back, and with it the agent,
 * until it is asked for. So flat memory and backpressure are the owner's pace, in both directions. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "proto/bulk.pb-c.h"
#include "proto/err.h"

#define BULK_HELLO_MS 15000     /* from the connect to the agent's HELLO */
#define BULK_ANSWER_MS 60000    /* from there to the RSP, unless the operation is done with it */
#define BULK_SILENCE_MS 300000  /* between two signs of life of an agent that is waited for */
#define BULK_QUEUE (256u << 10) /* bytes unsent */

struct bulk;

struct bulk_config {
	uv_loop_t *loop;
	const char *socket_path; /* as in link_config */
	unsigned port;
	uint64_t host_epoch; /* of the current main connection */
	/* Once after each BULK_WAIT, when there may be an item, and once after bulk_room said 0, when there
	 * is room. Never inside a call on the same bulk. */
	void (*wake)(void *arg);
	void *arg;
};

enum bulk_kind {
	BULK_WAIT,
	BULK_ANSWER, /* the RSP; the first item of a success */
	BULK_DATA,
	BULK_EVENT,
	BULK_END,    /* of what the agent sends: total is what it says. Or the operation is done */
	BULK_FAILED, /* error is set if the agent says so, else why */
};
struct bulk_item { /* all valid until the next call */
	enum bulk_kind kind;
	const Tenon__BulkResponse *answer;
	const uint8_t *data;
	size_t len;
	const Tenon__BulkEvent *event;
	uint64_t total;
	const Tenon__Error *error;
	const struct err *why;
};

/* Dials and asks. -errno if nobody listens there, or the request is over MESSAGE_MAX. */
int bulk_create(struct bulk **out, const struct bulk_config *c, const Tenon__BulkRequest *req, struct err *e);
/* The operation is given up unless it has ended; wake does not run any more. NULL is fine. */
void bulk_destroy(struct bulk *b);
/* DATA at most max bytes at a time. BULK_END and BULK_FAILED are the last of what the agent sends, and come
 * again. */
void bulk_next(struct bulk *b, size_t max, struct bulk_item *out);

/* For operations that take bytes, after the answer: how many bulk_send may take now. */
size_t bulk_room(struct bulk *b);
void bulk_send(struct bulk *b, const void *data, size_t len); /* copies; len at most bulk_room */
void bulk_send_end(struct bulk *b);
