#include "credentials.h"

#include <errno.h>
#include <nettle/base16.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "host-shim/daemon/store/sql.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "scopes.h"

/* "tenon_k" ID "_" SECRET is a key, "tenon_t…" a token; a client's id is "tenon_c" ID and its secret apart.
 */
#define LEAD "tenon_"
#define LEAD_LEN (sizeof LEAD) /* with the letter of the kind */
#define SECRET_LEN 64          /* hex digits: 256 bits */
#define BUCKETS 1024
#define USED_EVERY_MS 60000 /* how stale used_ms in the database may be */

static const char letters[] = {[CREDENTIAL_KEY] = 'k', [CREDENTIAL_CLIENT] = 'c', [CREDENTIAL_TOKEN] = 't'};
static const char *const kinds[] = {
	[CREDENTIAL_KEY] = "key", [CREDENTIAL_CLIENT] = "client", [CREDENTIAL_TOKEN] = "token"};

struct entry {
	TAILQ_ENTRY(entry) link;
	LIST_ENTRY(entry) same; /* of its bucket */
	struct credential c;    /* strings owned */
	uint8_t hash[SHA256_DIGEST_SIZE];
	char parent[CREDENTIAL_ID_LEN + 1]; /* of a token */
	bool listed;                        /* committed; not removed */
	bool orphaned;                      /* its client was removed while it was on its way */
	int64_t written_used_ms;
};

struct credentials {
	struct store *store;
	TAILQ_HEAD(, entry) list; /* oldest first */
	/* Every request with a key looks for its id; there may be thousands. */
	LIST_HEAD(bucket, entry) by_id[BUCKETS];
};

static int64_t now_ms(void)
{
	return (int64_t)clock_ms(CLOCK_REALTIME);
}

static void hash_text(const char *text, uint8_t out[SHA256_DIGEST_SIZE])
{
	struct sha256_ctx c;
	sha256_init(&c);
	sha256_update(&c, strlen(text), (const uint8_t *)text);
	sha256_digest(&c, SHA256_DIGEST_SIZE, out);
}

/* ---- entries ---- */

static void entry_free(struct entry *n)
{
	free((void *)n->c.id);
	free((void *)n->c.prefix);
	free((void *)n->c.name);
	free((void *)n->c.words);
	free(n);
}

static struct bucket *bucket_of(const struct credentials *cs, const char *id, size_t len)
{
	uint32_t hash = 2166136261u; /* FNV-1a; ids are random, and nobody else chooses what is in a bucket */
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)id[i]) * 16777619u;
	return (struct bucket *)&cs->by_id[hash % BUCKETS];
}

/* c's strings are copied. NULL without memory. */
static struct entry *entry_create(struct credentials *cs, const struct credential *c)
{
	struct entry *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	n->c = *c;
	n->c.id = strdup(c->id);
	n->c.prefix = strdup(c->prefix);
	n->c.name = strdup(c->name);
	n->c.words = strdup(c->words);
	n->c.scopes = scopes_of_words(c->words);
	if (!n->c.id || !n->c.prefix || !n->c.name || !n->c.words) {
		entry_free(n);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&cs->list, n, link);
	LIST_INSERT_HEAD(bucket_of(cs, n->c.id, strlen(n->c.id)), n, same);
	return n;
}

static void entry_drop(struct credentials *cs, struct entry *n)
{
	TAILQ_REMOVE(&cs->list, n, link);
	LIST_REMOVE(n, same);
	entry_free(n);
}

static int load(sqlite3 *db, void *arg, struct err *e)
{
	struct credentials *cs = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db,
			    "SELECT id, kind, prefix, name, scopes, hash, parent, token_seconds, created_ms,"
			    " expires_ms, used_ms FROM credentials ORDER BY created_ms, id",
			    &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		const char *kind = (const char *)sqlite3_column_text(s, 1);
		struct credential c = {.id = (const char *)sqlite3_column_text(s, 0),
				       .prefix = (const char *)sqlite3_column_text(s, 2),
				       .name = (const char *)sqlite3_column_text(s, 3),
				       .words = (const char *)sqlite3_column_text(s, 4),
				       .token_seconds = (unsigned)sqlite3_column_int64(s, 7),
				       .created_ms = sqlite3_column_int64(s, 8),
				       .expires_ms = sqlite3_column_int64(s, 9),
				       .used_ms = sqlite3_column_int64(s, 10)};
		while (strcmp(kinds[c.kind], kind) != 0)
			if (++c.kind > CREDENTIAL_TOKEN)
				return err_set(e, "auth", EINVAL, "credential %s is of an unknown kind",
					       c.id);
		struct entry *n = entry_create(cs, &c);
		if (!n)
			return err_sys(e, "auth", ENOMEM, "loading keys");
		if (sqlite3_column_bytes(s, 5) == sizeof n->hash)
			memcpy(n->hash, sqlite3_column_blob(s, 5), sizeof n->hash);
		else
			return err_set(e, "auth", EINVAL, "credential %s has no hash", n->c.id);
		sql_copy_text(n->parent, sizeof n->parent, s, 6);
		n->written_used_ms = c.used_ms;
		n->listed = true;
	}
	return r;
}

int credentials_create(struct credentials **out, struct store *store, struct err *e)
{
	struct credentials *cs = calloc(1, sizeof *cs);
	if (!cs)
		return err_sys(e, "auth", ENOMEM, "no memory");
	cs->store = store;
	TAILQ_INIT(&cs->list);
	int r = store_run(store, load, cs, e);
	if (r < 0)
		credentials_destroy(cs);
	else
		*out = cs;
	return r;
}

void credentials_destroy(struct credentials *cs)
{
	struct entry *n;
	while (cs && (n = TAILQ_FIRST(&cs->list)))
		entry_drop(cs, n);
	free(cs);
}

/* ---- rows ---- */

enum change { CHANGE_ADD, CHANGE_USED, CHANGE_REMOVE };

struct job {
	struct credentials *credentials;
	struct entry *entry; /* of an addition */
	enum change change;
	char id[CREDENTIAL_ID_LEN + 1];
	int64_t used_ms;
	credential_made_fn made;
	credential_done_fn done;
	void *arg;
	char secret[CREDENTIAL_TEXT_MAX];
};

static int write_job(sqlite3 *db, void *arg, struct err *e)
{
	static const char *const statements[] = {
		[CHANGE_ADD] = "INSERT INTO credentials (id, prefix, name, scopes, hash, parent,"
			       " token_seconds, created_ms, expires_ms, kind, used_ms)"
			       " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
		[CHANGE_USED] = "UPDATE credentials SET used_ms = ?2 WHERE id = ?1",
		[CHANGE_REMOVE] = "DELETE FROM credentials WHERE id = ?1 OR parent = ?1",
	};
	const struct job *j = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, statements[j->change], &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, j->id);
	if (j->change == CHANGE_USED)
		sqlite3_bind_int64(s, 2, j->used_ms);
	if (j->change == CHANGE_ADD) {
		const struct entry *n = j->entry;
		sql_bind_text(s, 2, n->c.prefix);
		sql_bind_text(s, 3, n->c.name);
		sql_bind_text(s, 4, n->c.words);
		sqlite3_bind_blob(s, 5, n->hash, sizeof n->hash, SQLITE_STATIC);
		sql_bind_text(s, 6, n->parent);
		sqlite3_bind_int64(s, 7, n->c.token_seconds);
		sqlite3_bind_int64(s, 8, n->c.created_ms);
		sqlite3_bind_int64(s, 9, n->c.expires_ms);
		sql_bind_text(s, 10, kinds[n->c.kind]);
	}
	return sql_step(db, s, e);
}

static void on_written(void *arg, int status, const struct err *e)
{
	(void)e;
	struct job *j = arg;
	if (j->made && status == 0 && j->entry->orphaned)
		status = -ENOENT;
	if (j->made && status == 0) {
		j->entry->listed = true;
		j->made(j->arg, &j->entry->c, j->secret, 0);
	} else if (j->made) {
		j->made(j->arg, NULL, NULL, status);
		entry_drop(j->credentials, j->entry);
	} else if (j->done) {
		j->done(j->arg, status);
	}
	explicit_bzero(j->secret, sizeof j->secret);
	free(j);
}

/* NULL without memory: then nothing is on its way. */
static struct job *job_create(struct credentials *cs, enum change change, const char *id)
{
	struct job *j = calloc(1, sizeof *j);
	if (j) {
		j->credentials = cs;
		j->change = change;
		snprintf(j->id, sizeof j->id, "%s", id);
	}
	return j;
}

/* ---- who is it ---- */

static bool is_over(const struct entry *n)
{
	return n->c.expires_ms && n->c.expires_ms <= now_ms();
}

static struct entry *find_id(const struct credentials *cs, enum credential_kind kind, const char *id,
			     size_t len)
{
	struct entry *n;
	if (len != CREDENTIAL_ID_LEN)
		return NULL;
	LIST_FOREACH (n, bucket_of(cs, id, len), same)
		if (n->listed && n->c.kind == kind && memcmp(n->c.id, id, len) == 0)
			return n;
	return NULL;
}

static void note_use(struct credentials *cs, struct entry *n)
{
	n->c.used_ms = now_ms();
	if (n->c.used_ms - n->written_used_ms < USED_EVERY_MS || n->c.kind == CREDENTIAL_TOKEN)
		return;
	struct job *j = job_create(cs, CHANGE_USED, n->c.id);
	if (!j)
		return;
	j->used_ms = n->written_used_ms = n->c.used_ms;
	store_submit(cs->store, write_job, on_written, j);
}

/* The id is no secret: it only says whose hash to compare. */
static const struct credential *check(struct credentials *cs, struct entry *n, const char *secret)
{
	static const uint8_t nobody[SHA256_DIGEST_SIZE];
	uint8_t sent[SHA256_DIGEST_SIZE];
	hash_text(secret, sent);
	bool same = memeql_sec(sent, n ? n->hash : nobody, sizeof sent);
	if (!n || !same || is_over(n))
		return NULL;
	note_use(cs, n);
	return &n->c;
}

const struct credential *credentials_check(struct credentials *cs, const char *sent)
{
	if (strncmp(sent, LEAD, LEAD_LEN - 1) != 0)
		return NULL;
	enum credential_kind kind = sent[LEAD_LEN - 1] == 'k' ? CREDENTIAL_KEY : CREDENTIAL_TOKEN;
	if (sent[LEAD_LEN - 1] != letters[kind])
		return NULL;
	const char *id = sent + LEAD_LEN, *secret = strchr(id, '_');
	return secret ? check(cs, find_id(cs, kind, id, (size_t)(secret - id)), sent) : NULL;
}

const struct credential *credentials_check_client(struct credentials *cs, const char *id, const char *secret)
{
	bool formed = strncmp(id, LEAD "c", LEAD_LEN) == 0;
	const char *bare = formed ? id + LEAD_LEN : "";
	return check(cs, find_id(cs, CREDENTIAL_CLIENT, bare, strlen(bare)), secret);
}

bool credentials_is_token(const char *text)
{
	return strncmp(text, LEAD "t", LEAD_LEN) == 0;
}

/* ---- changes ---- */

static struct entry *find_name(const struct credentials *cs, const char *prefix, enum credential_kind kind,
			       const char *name)
{
	struct entry *n;
	TAILQ_FOREACH (n, &cs->list, link)
		if (n->c.kind == kind && strcmp(n->c.prefix, prefix) == 0 && strcmp(n->c.name, name) == 0)
			return n;
	return NULL;
}

static void forget(struct credentials *cs, struct entry *n)
{
	struct job *j = job_create(cs, CHANGE_REMOVE, n->c.id);
	if (j)
		store_submit(cs->store, write_job, on_written, j);
	entry_drop(cs, n);
}

/* Tokens that are over go, and the client's oldest if there are still too many of it. */
static void make_room(struct credentials *cs, const char *client)
{
	struct entry *n, *next, *oldest = NULL;
	unsigned count = 0;
	for (n = TAILQ_FIRST(&cs->list); n; n = next) {
		next = TAILQ_NEXT(n, link);
		if (!n->listed || n->c.kind != CREDENTIAL_TOKEN)
			continue;
		if (is_over(n)) {
			forget(cs, n);
		} else if (strcmp(n->parent, client) == 0) {
			oldest = oldest ? oldest : n;
			count++;
		}
	}
	if (count >= CREDENTIALS_TOKENS_MAX)
		forget(cs, oldest);
}

static unsigned count_lasting(const struct credentials *cs, const char *prefix)
{
	const struct entry *n;
	unsigned count = 0;
	TAILQ_FOREACH (n, &cs->list, link)
		count += n->c.kind != CREDENTIAL_TOKEN && strcmp(n->c.prefix, prefix) == 0;
	return count;
}

static int make_secret(char id[CREDENTIAL_ID_LEN + 1], char secret[SECRET_LEN + 1])
{
	uint8_t random[CREDENTIAL_ID_LEN / 2 + SECRET_LEN / 2];
	if (getrandom(random, sizeof random, 0) != sizeof random)
		return -EIO;
	base16_encode_update(id, CREDENTIAL_ID_LEN / 2, random);
	base16_encode_update(secret, SECRET_LEN / 2, random + CREDENTIAL_ID_LEN / 2);
	id[CREDENTIAL_ID_LEN] = secret[SECRET_LEN] = '\0';
	explicit_bzero(random, sizeof random);
	return 0;
}

void credentials_add(struct credentials *cs, const struct credential_spec *spec, credential_made_fn done,
		     void *arg)
{
	char id[CREDENTIAL_ID_LEN + 1], secret[SECRET_LEN + 1];
	bool token = spec->kind == CREDENTIAL_TOKEN;
	if (token)
		make_room(cs, spec->client->id);
	int r = make_secret(id, secret);
	if (r == 0 && !token && find_name(cs, spec->prefix, spec->kind, spec->name))
		r = -EEXIST;
	if (r == 0 && !token && count_lasting(cs, spec->prefix) >= CREDENTIALS_MAX)
		r = -ENOSPC;
	struct job *j = r == 0 ? job_create(cs, CHANGE_ADD, id) : NULL;
	struct credential c = {.kind = spec->kind,
			       .id = id,
			       .prefix = spec->prefix,
			       .name = token ? id : spec->name,
			       .words = spec->words,
			       .token_seconds = spec->token_seconds,
			       .created_ms = now_ms(),
			       .expires_ms = spec->expires_ms};
	if (!j || !(j->entry = entry_create(cs, &c))) {
		free(j);
		done(arg, NULL, NULL, r < 0 ? r : -ENOMEM);
		return;
	}
	if (spec->kind == CREDENTIAL_CLIENT)
		strcpy(j->secret, secret);
	else
		snprintf(j->secret, sizeof j->secret, LEAD "%c%s_%s", letters[spec->kind], id, secret);
	explicit_bzero(secret, sizeof secret);
	hash_text(j->secret, j->entry->hash);
	if (spec->client)
		snprintf(j->entry->parent, sizeof j->entry->parent, "%s", spec->client->id);
	j->made = done;
	j->arg = arg;
	store_submit(cs->store, write_job, on_written, j);
}

void credentials_remove(struct credentials *cs, const char *prefix, enum credential_kind kind,
			const char *name, credential_done_fn done, void *arg)
{
	struct entry *n = find_name(cs, prefix, kind, name), *other, *next;
	if (!n && kind == CREDENTIAL_CLIENT && strncmp(name, LEAD "c", LEAD_LEN) == 0)
		n = find_id(cs, kind, name + LEAD_LEN, strlen(name + LEAD_LEN));
	if (!n || !n->listed || strcmp(n->c.prefix, prefix) != 0) {
		done(arg, -ENOENT);
		return;
	}
	struct job *j = job_create(cs, CHANGE_REMOVE, n->c.id);
	if (!j) {
		done(arg, -ENOMEM);
		return;
	}
	j->done = done;
	j->arg = arg;
	for (other = TAILQ_FIRST(&cs->list); other; other = next) {
		next = TAILQ_NEXT(other, link);
		if (strcmp(other->parent, j->id) != 0)
			continue;
		if (other->listed)
			entry_drop(cs, other);
		else
			other->orphaned = true;
	}
	entry_drop(cs, n);
	store_submit(cs->store, write_job, on_written, j);
}

void credentials_each(const struct credentials *cs, const char *prefix, enum credential_kind kind,
		      void (*fn)(void *arg, const struct credential *c), void *arg)
{
	const struct entry *n;
	TAILQ_FOREACH (n, &cs->list, link)
		if (n->listed && n->c.kind == kind && strcmp(n->c.prefix, prefix) == 0)
			fn(arg, &n->c);
}

bool credentials_any(const struct credentials *cs, const char *prefix)
{
	const struct entry *n;
	TAILQ_FOREACH (n, &cs->list, link)
		if (strcmp(n->c.prefix, prefix) == 0 && n->c.kind != CREDENTIAL_TOKEN)
			return true;
	return false;
}
