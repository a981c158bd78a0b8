#include "sql.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int errno_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_CONSTRAINT:
		return EEXIST;
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EBUSY;
	case SQLITE_READONLY:
		return EROFS;
	default:
		return EIO;
	}
}

int sql_err(sqlite3 *db, struct err *e, const char *doing)
{
	return err_set(e, "database", errno_of(sqlite3_extended_errcode(db)), "%s: %s", doing,
		       sqlite3_errmsg(db));
}

int sql_exec(sqlite3 *db, const char *sql, struct err *e)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_err(db, e, sql);
}

int sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct err *e)
{
	return sqlite3_prepare_v2(db, sql, -1, out, NULL) == SQLITE_OK ? 0 : sql_err(db, e, sql);
}

int sql_keep(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct err *e)
{
	*out = NULL;
	for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(db, s));)
		if (!sqlite3_stmt_busy(s) && strcmp(sqlite3_sql(s), sql) == 0) {
			*out = s;
			return 0;
		}
	int r = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
	return r == SQLITE_OK ? 0 : sql_err(db, e, sql);
}

int sql_run(sqlite3 *db, const char *sql, struct err *e)
{
	_cleanup_kept_ sqlite3_stmt *s = NULL;
	int r = sql_keep(db, sql, &s, e);
	if (r == 0 && sqlite3_step(s) != SQLITE_DONE)
		r = sql_err(db, e, sql);
	return r;
}

void sql_close(sqlite3 *db)
{
	for (sqlite3_stmt *s; (s = sqlite3_next_stmt(db, NULL));)
		sqlite3_finalize(s);
	sqlite3_close(db);
}

int sql_step(sqlite3 *db, sqlite3_stmt *s, struct err *e)
{
	switch (sqlite3_step(s)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return sql_err(db, e, "step");
	}
}

void sql_bind_text(sqlite3_stmt *s, int index, const char *text)
{
	sqlite3_bind_text(s, index, text, -1, SQLITE_STATIC);
}

char *sql_dup_text(sqlite3_stmt *s, int index)
{
	const char *text = (const char *)sqlite3_column_text(s, index);
	return text ? strdup(text) : NULL;
}

void sql_copy_text(char *out, size_t cap, sqlite3_stmt *s, int index)
{
	const char *text = (const char *)sqlite3_column_text(s, index);
	snprintf(out, cap, "%s", text ? text : "");
}

int sql_run_for(sqlite3 *db, const char *sql, const char *text, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, sql, &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, text);
	return sql_step(db, s, e);
}
