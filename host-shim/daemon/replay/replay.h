/* The first answer to a request that carries an Idempotency-Key, kept for those who ask again: in the
 * database, so that it outlives tenond. One effect for each key: the claim is committed before the effect
 * begins, and who comes meanwhile waits for the answer. Knows nothing of HTTP but a status, a Location and a
 * body. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host-shim/daemon/store/store.h"

#define REPLAY_KEY_MAX 255
#define REPLAY_LIFETIME_MS (24ll * 3600 * 1000)
#define REPLAY_KEYS_MAX 10000        /* of one prefix */
#define REPLAY_BODY_MAX (256u << 10) /* a longer answer is not kept */

struct replay;

int replay_create(struct replay **out, struct store *store, struct err *e);
void replay_destroy(struct replay *rp); /* after the store's last callback; NULL is fine */

enum replay_outcome {
	REPLAY_RUN,      /* nobody has: run it, then call replay_end */
	REPLAY_ANSWER,   /* somebody has: this was the answer */
	REPLAY_MISMATCH, /* the key belongs to another request */
	REPLAY_CUT_OFF,  /* somebody has begun, and tenond ended: nobody knows what came of it */
	REPLAY_FULL,     /* REPLAY_KEYS_MAX are kept */
	REPLAY_FAILED,   /* the database failed, or memory */
};
struct replay_answer { /* borrowed */
	unsigned status;
	const char *location; /* "" if there was none */
	const char *body;
	size_t len;
};
struct replay_request { /* borrowed */
	const char *prefix, *key;
	const uint8_t *fingerprint; /* 32 bytes: of all that makes it the same request */
	bool repeatable;            /* doing it again is no second effect: never CUT_OFF, but RUN */
};
/* tenond ends: what fails from now on may have had its effect, so claims without an answer stay. */
void replay_freeze(struct replay *rp);

/* Once, now or later. The answer, for ANSWER alone, is valid during the call. */
typedef void (*replay_fn)(void *arg, enum replay_outcome outcome, const struct replay_answer *answer);
void replay_begin(struct replay *rp, const struct replay_request *q, replay_fn fn, void *arg);
/* After RUN: the answer to keep, or NULL to let the next one try. done after the commit, or its failure. */
void replay_end(struct replay *rp, const char *prefix, const char *key, const struct replay_answer *answer,
		void (*done)(void *arg), void *arg);
