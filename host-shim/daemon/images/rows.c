#include "rows.h"

#include "host-shim/daemon/store/sql.h"

int image_row_insert(sqlite3 *db, const struct image_row *row, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db,
			    "INSERT INTO images (digest, size, config, created_ms) VALUES (?, ?, ?, ?)"
			    " ON CONFLICT DO NOTHING",
			    &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, row->digest);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)row->size);
	sql_bind_text(s, 3, row->config);
	sqlite3_bind_int64(s, 4, row->created_ms);
	return sql_step(db, s, e);
}

int image_row_delete(sqlite3 *db, const char *digest, struct err *e)
{
	return sql_run_for(db, "DELETE FROM images WHERE digest = ?", digest, e);
}

int name_row_put(sqlite3 *db, const struct name_row *row, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(
		db,
		"INSERT INTO image_names (prefix, reference, digest, cached_ms) VALUES (?, ?, ?, ?)"
		" ON CONFLICT (prefix, reference) DO UPDATE SET digest = excluded.digest,"
		" cached_ms = excluded.cached_ms",
		&s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, row->prefix);
	sql_bind_text(s, 2, row->reference);
	sql_bind_text(s, 3, row->digest);
	sqlite3_bind_int64(s, 4, row->cached_ms);
	return sql_step(db, s, e);
}

int name_row_delete(sqlite3 *db, const char *prefix, const char *reference, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "DELETE FROM image_names WHERE prefix = ? AND reference = ?", &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, prefix);
	sql_bind_text(s, 2, reference);
	return sql_step(db, s, e);
}

int image_rows_each(sqlite3 *db, void (*fn)(void *arg, const struct image_row *row), void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "SELECT digest, size, config, created_ms FROM images", &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		struct image_row row = {.size = (uint64_t)sqlite3_column_int64(s, 1),
					.config = (const char *)sqlite3_column_text(s, 2),
					.created_ms = sqlite3_column_int64(s, 3)};
		sql_copy_text(row.digest, sizeof row.digest, s, 0);
		fn(arg, &row);
	}
	return r;
}

int name_rows_each(sqlite3 *db, void (*fn)(void *arg, const struct name_row *row), void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "SELECT prefix, reference, digest, cached_ms FROM image_names", &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		struct name_row row = {.prefix = (const char *)sqlite3_column_text(s, 0),
				       .reference = (const char *)sqlite3_column_text(s, 1),
				       .cached_ms = sqlite3_column_int64(s, 3)};
		sql_copy_text(row.digest, sizeof row.digest, s, 2);
		fn(arg, &row);
	}
	return r;
}
