#include "tenants.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/store/sql.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define PREFIX_MAX 128

/* An entry is never freed while the registry lives: requests hold its string. One that was removed waits to
 * be registered again. */
struct entry {
	struct tenant tenant;
	bool listed; /* committed, not removed */
	bool busy;   /* a change of it is on its way */
};

struct tenants {
	struct store *store;
	struct entry *entries[TENANTS_MAX];
	unsigned count;
	const char *prefixes[TENANTS_MAX + 1];
};

bool tenant_is_valid(const char *text)
{
	if (strlen(text) > PREFIX_MAX)
		return false;
	bool start = true;
	for (; *text; text++) {
		bool plain = isalnum((unsigned char)*text);
		if (start ? !plain : !plain && !strchr("._-/", *text))
			return false;
		start = *text == '/';
	}
	return !start;
}

static struct entry *find(const struct tenants *ts, const char *prefix)
{
	for (unsigned i = 0; i < ts->count; i++)
		if (strcmp(ts->entries[i]->tenant.prefix, prefix) == 0)
			return ts->entries[i];
	return NULL;
}

/* NULL: no room, or no memory. */
static struct entry *append(struct tenants *ts, const char *prefix, unsigned max_boxes, int64_t created_ms)
{
	struct entry *n = ts->count < TENANTS_MAX ? calloc(1, sizeof *n) : NULL;
	char *copy = n ? strdup(prefix) : NULL;
	if (!copy) {
		free(n);
		return NULL;
	}
	n->tenant = (struct tenant){.prefix = copy, .max_boxes = max_boxes, .created_ms = created_ms};
	return ts->entries[ts->count++] = n;
}

static int load(sqlite3 *db, void *arg, struct err *e)
{
	struct tenants *ts = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(
		db, "SELECT prefix, max_boxes, created_ms FROM prefixes ORDER BY created_ms, prefix", &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		struct entry *n = append(ts, (const char *)sqlite3_column_text(s, 0),
					 (unsigned)sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2));
		if (!n)
			return err_sys(e, "tenants", ENOMEM, "loading prefixes");
		n->listed = true;
	}
	return r;
}

int tenants_create(struct tenants **out, struct store *store, struct err *e)
{
	struct tenants *ts = calloc(1, sizeof *ts);
	if (!ts)
		return err_sys(e, "tenants", ENOMEM, "no memory");
	ts->store = store;
	struct entry *first = append(ts, TENANT_DEFAULT, TENANT_BOXES_MAX, 0);
	int r = first ? store_run(store, load, ts, e) : err_sys(e, "tenants", ENOMEM, "no memory");
	if (r < 0) {
		tenants_destroy(ts);
		return r;
	}
	first->listed = true;
	*out = ts;
	return 0;
}

void tenants_destroy(struct tenants *ts)
{
	for (unsigned i = 0; ts && i < ts->count; i++) {
		free((void *)ts->entries[i]->tenant.prefix);
		free(ts->entries[i]);
	}
	free(ts);
}

const struct tenant *tenants_find(const struct tenants *ts, const char *prefix)
{
	const struct entry *n = find(ts, prefix);
	return n && n->listed ? &n->tenant : NULL;
}

const char *const *tenants_prefixes(struct tenants *ts)
{
	unsigned n = 0;
	for (unsigned i = 0; i < ts->count; i++)
		if (ts->entries[i]->listed)
			ts->prefixes[n++] = ts->entries[i]->tenant.prefix;
	ts->prefixes[n] = NULL;
	return ts->prefixes;
}

/* ---- changes ---- */

struct change {
	struct entry *entry;
	bool adds;
	tenant_done_fn done;
	void *arg;
};

static int write_change(sqlite3 *db, void *arg, struct err *e)
{
	const struct change *c = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db,
			    c->adds ? "INSERT INTO prefixes VALUES (?, ?, ?)"
				    : "DELETE FROM prefixes WHERE prefix = ?",
			    &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, c->entry->tenant.prefix);
	if (c->adds) {
		sqlite3_bind_int64(s, 2, c->entry->tenant.max_boxes);
		sqlite3_bind_int64(s, 3, c->entry->tenant.created_ms);
	}
	return sql_step(db, s, e);
}

static void on_changed(void *arg, int status, const struct err *e)
{
	(void)e;
	_cleanup_free_ struct change *c = arg;
	c->entry->busy = false;
	c->entry->listed = (status == 0) == c->adds;
	c->done(c->arg, status);
}

static void submit(struct tenants *ts, struct entry *n, bool adds, tenant_done_fn done, void *arg)
{
	struct change *c = malloc(sizeof *c);
	if (!c) {
		done(arg, -ENOMEM);
		return;
	}
	*c = (struct change){.entry = n, .adds = adds, .done = done, .arg = arg};
	n->busy = true;
	store_submit(ts->store, write_change, on_changed, c);
}

void tenants_add(struct tenants *ts, const char *prefix, unsigned max_boxes, tenant_done_fn done, void *arg)
{
	int64_t now = (int64_t)clock_ms(CLOCK_REALTIME);
	struct entry *n = find(ts, prefix);
	if (n && (n->listed || n->busy)) {
		done(arg, -EEXIST);
		return;
	}
	if (n) {
		n->tenant.max_boxes = max_boxes;
		n->tenant.created_ms = now;
	} else if (!(n = append(ts, prefix, max_boxes, now))) {
		done(arg, -ENOSPC);
		return;
	}
	submit(ts, n, true, done, arg);
}

void tenants_remove(struct tenants *ts, const char *prefix, tenant_done_fn done, void *arg)
{
	struct entry *n = find(ts, prefix);
	if (!n || !n->listed || n->busy) {
		done(arg, -ENOENT);
		return;
	}
	n->listed = false; /* at once: nothing new is made in it meanwhile */
	submit(ts, n, false, done, arg);
}
