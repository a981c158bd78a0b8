#include "replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "host-shim/daemon/store/sql.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define FINGERPRINT 32

struct waiter {
	STAILQ_ENTRY(waiter) link;
	replay_fn fn;
	void *arg;
};
STAILQ_HEAD(waiters, waiter);

/* A key that is looked up, is being run, or whose answer is being written. */
struct flight {
	LIST_ENTRY(flight) link;
	struct replay *replay;
	char *prefix, *key;
	uint8_t fingerprint[FINGERPRINT];
	bool repeatable;
	struct waiters waiters;
	/* What the store's thread finds, or is to write. */
	enum replay_outcome found;
	bool keeps;
	unsigned status;
	char *location, *body;
	size_t len;
	void (*done)(void *arg);
	void *done_arg;
};

struct replay {
	struct store *store;
	LIST_HEAD(, flight) flights;
	bool frozen;
};

int replay_create(struct replay **out, struct store *store, struct err *e)
{
	struct replay *rp = calloc(1, sizeof *rp);
	if (!rp)
		return err_sys(e, "replay", ENOMEM, "no memory");
	rp->store = store;
	*out = rp;
	return 0;
}

static void clear_answer(struct flight *f)
{
	free(f->location);
	free(f->body);
	f->location = f->body = NULL;
	f->len = 0;
	f->status = 0;
}

static void flight_free(struct flight *f)
{
	clear_answer(f);
	free(f->prefix);
	free(f->key);
	free(f);
}

void replay_destroy(struct replay *rp)
{
	struct flight *f;
	while (rp && (f = LIST_FIRST(&rp->flights))) {
		struct waiter *w;
		while ((w = STAILQ_FIRST(&f->waiters))) {
			STAILQ_REMOVE_HEAD(&f->waiters, link);
			w->fn(w->arg, REPLAY_FAILED, NULL);
			free(w);
		}
		LIST_REMOVE(f, link);
		flight_free(f);
	}
	free(rp);
}

void replay_freeze(struct replay *rp)
{
	if (rp)
		rp->frozen = true;
}

static struct flight *find(struct replay *rp, const char *prefix, const char *key)
{
	struct flight *f;
	LIST_FOREACH (f, &rp->flights, link)
		if (strcmp(f->key, key) == 0 && strcmp(f->prefix, prefix) == 0)
			return f;
	return NULL;
}

/* ---- on the store's thread ---- */

static int bind_key(sqlite3 *db, const char *sql, const struct flight *f, sqlite3_stmt **s, struct err *e)
{
	int r = sql_prepare(db, sql, s, e);
	if (r == 0) {
		sql_bind_text(*s, 1, f->prefix);
		sql_bind_text(*s, 2, f->key);
	}
	return r;
}

static int forget_old(sqlite3 *db, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "DELETE FROM replies WHERE created_ms <= ?", &s, e);
	if (r < 0)
		return r;
	sqlite3_bind_int64(s, 1, (int64_t)clock_ms(CLOCK_REALTIME) - REPLAY_LIFETIME_MS);
	return sql_step(db, s, e);
}

/* 1: f says what is kept. 0: nothing is. */
static int read_kept(sqlite3 *db, struct flight *f, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = bind_key(
		db, "SELECT fingerprint, status, location, body FROM replies WHERE prefix = ? AND key = ?", f,
		&s, e);
	if (r == 0)
		r = sql_step(db, s, e);
	if (r <= 0)
		return r;
	f->status = (unsigned)sqlite3_column_int64(s, 1);
	f->location = sql_dup_text(s, 2);
	f->len = (size_t)sqlite3_column_bytes(s, 3);
	f->body = malloc(f->len + 1);
	if (!f->location || !f->body)
		return err_sys(e, "replay", ENOMEM, "no memory");
	memcpy(f->body, f->len ? sqlite3_column_blob(s, 3) : "", f->len);
	f->body[f->len] = '\0';
	if (sqlite3_column_bytes(s, 0) != FINGERPRINT ||
	    memcmp(sqlite3_column_blob(s, 0), f->fingerprint, FINGERPRINT) != 0)
		f->found = REPLAY_MISMATCH;
	else if (f->status)
		f->found = REPLAY_ANSWER;
	else
		f->found = f->repeatable ? REPLAY_RUN : REPLAY_CUT_OFF;
	return 1;
}

static int count_kept(sqlite3 *db, const struct flight *f, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "SELECT count(*) FROM replies WHERE prefix = ?", &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, f->prefix);
	r = sql_step(db, s, e);
	return r < 0 ? r : sqlite3_column_int(s, 0);
}

static int claim(sqlite3 *db, void *arg, struct err *e)
{
	struct flight *f = arg;
	clear_answer(f);
	int r = forget_old(db, e);
	if (r == 0)
		r = read_kept(db, f, e);
	if (r != 0)
		return r < 0 ? r : 0;
	r = count_kept(db, f, e);
	if (r < 0)
		return r;
	f->found = r < REPLAY_KEYS_MAX ? REPLAY_RUN : REPLAY_FULL;
	if (f->found == REPLAY_FULL)
		return 0;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	r = bind_key(db,
		     "INSERT INTO replies (prefix, key, fingerprint, created_ms, status, location, body)"
		     " VALUES (?, ?, ?, ?, 0, '', x'')",
		     f, &s, e);
	if (r < 0)
		return r;
	sqlite3_bind_blob(s, 3, f->fingerprint, FINGERPRINT, SQLITE_STATIC);
	sqlite3_bind_int64(s, 4, (int64_t)clock_ms(CLOCK_REALTIME));
	return sql_step(db, s, e);
}

static int write_end(sqlite3 *db, void *arg, struct err *e)
{
	const struct flight *f = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = bind_key(
		db,
		f->keeps ? "UPDATE replies SET status = ?3, location = ?4, body = ?5 WHERE prefix = ?1"
			   " AND key = ?2"
			 : "DELETE FROM replies WHERE prefix = ?1 AND key = ?2",
		f, &s, e);
	if (r < 0)
		return r;
	if (f->keeps) {
		sqlite3_bind_int64(s, 3, f->status);
		sql_bind_text(s, 4, f->location);
		sqlite3_bind_blob(s, 5, f->body, (int)f->len, SQLITE_STATIC);
	}
	return sql_step(db, s, e);
}

/* ---- on the loop ---- */

static void tell_first(struct flight *f, enum replay_outcome outcome, const struct replay_answer *answer)
{
	struct waiter *w = STAILQ_FIRST(&f->waiters);
	STAILQ_REMOVE_HEAD(&f->waiters, link);
	w->fn(w->arg, outcome, answer);
	free(w);
}

/* Tells all who wait, and the key is in flight no more. */
static void land(struct flight *f, enum replay_outcome outcome)
{
	struct replay_answer answer = {
		.status = f->status, .location = f->location, .body = f->body, .len = f->len};
	LIST_REMOVE(f, link);
	while (!STAILQ_EMPTY(&f->waiters))
		tell_first(f, outcome, outcome == REPLAY_ANSWER ? &answer : NULL);
	flight_free(f);
}

static void on_claimed(void *arg, int status, const struct err *e)
{
	(void)e;
	struct flight *f = arg;
	if (status < 0)
		land(f, REPLAY_FAILED);
	else if (f->found == REPLAY_RUN)
		tell_first(f, REPLAY_RUN, NULL); /* may end, and free, it */
	else
		land(f, f->found);
}

static struct flight *flight_create(struct replay *rp, const struct replay_request *q)
{
	struct flight *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->replay = rp;
	f->prefix = strdup(q->prefix);
	f->key = strdup(q->key);
	f->repeatable = q->repeatable;
	memcpy(f->fingerprint, q->fingerprint, FINGERPRINT);
	STAILQ_INIT(&f->waiters);
	if (!f->prefix || !f->key) {
		flight_free(f);
		return NULL;
	}
	LIST_INSERT_HEAD(&rp->flights, f, link);
	return f;
}

void replay_begin(struct replay *rp, const struct replay_request *q, replay_fn fn, void *arg)
{
	struct flight *f = find(rp, q->prefix, q->key);
	if (f && memcmp(f->fingerprint, q->fingerprint, FINGERPRINT) != 0) {
		fn(arg, REPLAY_MISMATCH, NULL);
		return;
	}
	bool first = !f;
	struct waiter *w = malloc(sizeof *w);
	if (w && first)
		f = flight_create(rp, q);
	if (!w || !f) {
		free(w);
		fn(arg, REPLAY_FAILED, NULL);
		return;
	}
	*w = (struct waiter){.fn = fn, .arg = arg};
	STAILQ_INSERT_TAIL(&f->waiters, w, link);
	if (first)
		store_submit(rp->store, claim, on_claimed, f);
}

static void on_ended(void *arg, int status, const struct err *e)
{
	(void)e;
	struct flight *f = arg;
	f->done(f->done_arg);
	if (f->keeps)
		land(f, REPLAY_ANSWER);
	else if (STAILQ_EMPTY(&f->waiters) || status < 0)
		land(f, REPLAY_FAILED);
	else
		store_submit(f->replay->store, claim, on_claimed, f);
}

void replay_end(struct replay *rp, const char *prefix, const char *key, const struct replay_answer *answer,
		void (*done)(void *arg), void *arg)
{
	struct flight *f = find(rp, prefix, key);
	f->done = done;
	f->done_arg = arg;
	clear_answer(f);
	f->keeps = answer && answer->len <= REPLAY_BODY_MAX;
	if (f->keeps) {
		f->status = answer->status;
		f->len = answer->len;
		f->location = strdup(answer->location);
		f->body = malloc(f->len + 1);
		f->keeps = f->location && f->body;
	}
	if (f->keeps) {
		memcpy(f->body, answer->body, f->len);
		f->body[f->len] = '\0';
	}
	if (f->keeps || !rp->frozen) {
		store_submit(rp->store, write_end, on_ended, f);
		return;
	}
	done(arg);
	land(f, REPLAY_FAILED);
}
