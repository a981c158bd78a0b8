/* The agent's side of WIRE.md: connections, HELLO with its fencing, requests, streams. */
#pragma once

#include "guest/boot/identity.h"
#include "guest/box/box.h"
#include "guest/bulk/pool.h"
#include "guest/link/conn.h"
#include "guest/link/streams.h"
#include "guest/memory.h"
#include "guest/power/power.h"
#include "guest/power/quiesce.h"

#define LINK_CONNS 16
#define LINK_WAITERS 16
#define LINK_SCRATCH (4 * 1024 * 1024)

/* What may take longer than a turn of the loop, and is one for all who ask for it meanwhile. */
enum link_wait { LINK_CONFIGURE, LINK_QUIESCE, LINK_RESUME, LINK_WAITS };

struct link {
	struct loop *loop;
	struct identity *identity;
	struct execs *execs;
	struct box *box;
	struct power *power;
	struct quiesce *quiesce;
	struct bulk_pool *bulk;

	struct conn conns[LINK_CONNS];
	struct conn *main; /* the one with the highest epoch, or NULL */
	bool paused;       /* reads nothing, so that nothing new begins */
	uint64_t epoch;
	struct streams streams;
	uint32_t waiters[LINK_WAITS][LINK_WAITERS]; /* streams of main; 0: free */
	uint8_t *scratch; /* LINK_SCRATCH: requests are unpacked here, one at a time */
};

int link_init(struct link *l, struct err *e);

/* A new connection from the listener; takes fd. */
void link_accept(struct link *l, int fd);

/* Reads, serves and writes what can be. Returns true if there is more to do at once. */
bool link_turn(struct link *l);

/* Everything queued for the main connection has left, or there is none. */
bool link_idle(const struct link *l);

/* The outcome of what they wait for, for all of them; f is NULL on success. */
void link_answer(struct link *l, enum link_wait wait, const struct fault *f);

/* An event on stream 0, if a host is there to hear it. */
void link_tell(struct link *l, const Tenon__Event *event);
