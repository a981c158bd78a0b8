/* Idempotency-Key: whether a request is run, answered as the first of its key was, or refused. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct call {
	struct replay *replay;
	struct http_request *r;
	char *prefix;
	char key[REPLAY_KEY_MAX + 1];
};

static void call_free(struct call *c)
{
	free(c->prefix);
	free(c);
}

static void on_ended(void *arg)
{
	struct call *c = arg;
	http_send_held(c->r);
	call_free(c);
}

/* Two answers say that nothing was done, and may be others the next time. */
static bool is_kept(unsigned status)
{
	return status != 429 && status != 503;
}

static void on_reply(void *arg, unsigned status, const char *location, const char *body, size_t len)
{
	struct call *c = arg;
	struct replay_answer a = {.status = status, .location = location, .body = body, .len = len};
	replay_end(c->replay, c->prefix, c->key, is_kept(status) ? &a : NULL, on_ended, c);
}

static void on_known(void *arg, enum replay_outcome outcome, const struct replay_answer *answer)
{
	struct call *c = arg;
	struct http_request *r = c->r;
	switch (outcome) {
	case REPLAY_RUN:
		http_hold_reply(r, on_reply, c);
		/* Of one whose client has left the headers and the query are gone, too. Nothing is done yet.
		 */
		if (http_client_left(r))
			http_reply_error(r, HTTP_UPSTREAM_UNAVAILABLE, "the client has left");
		else
			http_handle(r);
		return;
	case REPLAY_ANSWER:
		if (answer->location[0])
			http_set_header(r, "Location", answer->location);
		http_set_header(r, "Idempotency-Replayed", "true");
		http_reply_text(r, answer->status, answer->len ? "application/json" : NULL, answer->body,
				answer->len);
		break;
	case REPLAY_MISMATCH:
		http_reply_error_with(r, 422, HTTP_INVALID_ARGUMENT, NULL,
				      "this Idempotency-Key belongs to another request");
		break;
	case REPLAY_CUT_OFF:
		http_reply_error(
			r, HTTP_INVALID_STATE,
			"the first request with this Idempotency-Key was cut off when tenond ended: look "
			"what came of it, then use another key");
		break;
	case REPLAY_FULL:
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED,
				 "%d Idempotency-Keys are kept; each lives for 24 hours", REPLAY_KEYS_MAX);
		break;
	case REPLAY_FAILED:
		http_reply_error(r, HTTP_DATABASE_ERROR, "the Idempotency-Key could not be looked up");
		break;
	}
	call_free(c);
}

static bool key_is_valid(const char *key)
{
	size_t len = strlen(key);
	for (const char *p = key; *p; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return false;
	return len > 0 && len <= REPLAY_KEY_MAX;
}

bool rest_admit(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const char *key = http_header(r, "Idempotency-Key");
	unsigned flags = http_route_of(r)->flags;
	if (!key || !(flags & ROUTE_ONCE))
		return true;
	if (!key_is_valid(key)) {
		http_reply_error(r, HTTP_INVALID_ARGUMENT,
				 "Idempotency-Key must be 1 to %d printable characters without a space",
				 REPLAY_KEY_MAX);
		return false;
	}
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return false;
	struct call *c = calloc(1, sizeof *c);
	if (!c || !(c->prefix = strdup(t->prefix))) {
		free(c);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return false;
	}
	c->replay = rest->config.replay;
	c->r = r;
	strcpy(c->key, key);
	uint8_t fingerprint[32];
	http_fingerprint(r, fingerprint);
	replay_begin(c->replay,
		     &(struct replay_request){.prefix = c->prefix,
					      .key = c->key,
					      .fingerprint = fingerprint,
					      .repeatable = flags & ROUTE_REPEATABLE},
		     on_known, c);
	return false;
}
