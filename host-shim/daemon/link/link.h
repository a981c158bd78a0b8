/* One main connection to one agent (WIRE.md §2–§4): connect, HELLO, ping, streams. It knows frames and
 * streams, not executions. All on the loop thread. It does not reconnect: its owner makes a new one with a
 * higher epoch. Every byte from the other side is taken for hostile: what is malformed ends the link, with a
 * reason, and nothing else. */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "proto/frame.h"
#include "proto/message.h"
#include "proto/tenon.pb-c.h"

#define LINK_HELLO_MS 15000    /* from the connect to the agent's HELLO (WIRE.md §3) */
#define LINK_PING_MS 9000      /* silence before a PING … */
#define LINK_PING_STEP_MS 1000 /* … and up to so much more: idle links are asked in one turn of the loop */
#define LINK_SILENCE_MS 15000  /* from there to the end of the link */
#define LINK_QUEUE_MAX (4u << 20)  /* bytes unsent: a peer that reads so little is given up */
#define LINK_QUEUE_LOW (64u << 10) /* `drained` is called below */
#define LINK_UNPACK_MAX (1u << 20) /* memory that one message may take when unpacked */

struct link;

/* A host-opened stream, embedded in its owner. Callbacks that return int end the link with GOAWAY{PROTOCOL}
 * if that is negative and *e is set. Any of them may close the stream or destroy the link. */
struct link_stream {
	/* The RSP. m is freed after the call. */
	int (*response)(struct link_stream *s, const Tenon__Response *m, struct err *e);
	/* DATA, CREDIT, GAP, EOF after the RSP, checked as frames and for their direction; f is valid during
	 * the call. NULL for unary calls. */
	int (*frame)(struct link_stream *s, const struct frame *f, struct err *e);
	int (*event)(struct link_stream *s, const Tenon__Event *m, struct err *e);
	/* The stream ended without (or after) its response: RESET by the agent or the link went down. Exactly
	 * once, never after link_stream_close. */
	void (*lost)(struct link_stream *s, const struct err *why);

	/* the link's */
	uint32_t id; /* 0: not open */
	bool answered;
	LIST_ENTRY(link_stream) hash;
};

struct link_config {
	uv_loop_t *loop;
	const char *socket_path; /* tenon-vmm's vsock.sock (CONNECT line) … */
	unsigned port;           /* … with this port; 0: a bare unix socket of a plain-host agent */
	uint64_t host_epoch;
	void *arg;
	void (*up)(void *arg, const Tenon__Hello *hello);
	/* The link is unusable (never came up, broke, fenced, silent). Exactly once; streams have been told
	 * before. why->errnum is ESTALE if another host has taken over. The link may be destroyed inside this
	 * call. */
	void (*down)(void *arg, const struct err *why);
	/* The send queue has fallen below LINK_QUEUE_LOW after it was above. May be NULL. */
	void (*drained)(void *arg);
};

/* Dials. -errno if nobody listens there; down is not called then. */
int link_create(struct link **out, const struct link_config *c, struct err *e);
void link_destroy(struct link *l); /* calls no callback; streams are closed without a word; NULL is fine */

/* Highest epoch the agent named in its HELLO: after ESTALE, what to go above. */
uint64_t link_agent_epoch(const struct link *l);

/* Packs and sends a request on a fresh stream. -EMSGSIZE if it is over MESSAGE_MAX, -ENOTCONN if the link is
 * not up. */
int link_open(struct link *l, struct link_stream *s, const Tenon__Request *req, struct err *e);
/* Sends a small frame built with frame_put_* using s->id; copies it. */
void link_send(struct link *l, const uint8_t *frame, size_t len);
/* Sends DATA; copies. */
void link_send_data(struct link *l, struct link_stream *s, enum frame_channel c, uint64_t offset,
		    const void *data, size_t len);
/* Bytes not yet written: a caller with much to send holds back above LINK_QUEUE_LOW and goes on at `drained`.
 */
size_t link_queued(const struct link *l);
/* Forget the stream without a word (after its response), or with RESET if it is an execution's. */
void link_stream_close(struct link *l, struct link_stream *s, bool reset);
