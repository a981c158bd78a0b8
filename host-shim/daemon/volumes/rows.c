#include "rows.h"

#include <errno.h>
#include <stdlib.h>

#include "host-shim/daemon/store/sql.h"

void volume_row_finish(struct volume_row *row)
{
	free(row->prefix);
	free(row->name);
}

int volume_row_insert(sqlite3 *db, const struct volume_row *row, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(
		db, "INSERT INTO volumes (id, prefix, name, created_ms, used_ms) VALUES (?, ?, ?, ?, ?)", &s,
		e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, row->id);
	sql_bind_text(s, 2, row->prefix);
	sql_bind_text(s, 3, row->name);
	sqlite3_bind_int64(s, 4, row->created_ms);
	sqlite3_bind_int64(s, 5, row->used_ms);
	return sql_step(db, s, e);
}

int volume_row_set_used(sqlite3 *db, const char *id, int64_t used_ms, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "UPDATE volumes SET used_ms = ? WHERE id = ?", &s, e);
	if (r < 0)
		return r;
	sqlite3_bind_int64(s, 1, used_ms);
	sql_bind_text(s, 2, id);
	return sql_step(db, s, e);
}

int volume_row_delete(sqlite3 *db, const char *id, struct err *e)
{
	return sql_run_for(db, "DELETE FROM volumes WHERE id = ?", id, e);
}

int volume_row_each(sqlite3 *db, void (*fn)(void *arg, struct volume_row *row), void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(
		db, "SELECT id, prefix, name, created_ms, used_ms FROM volumes ORDER BY created_ms, id", &s,
		e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		struct volume_row row = {.prefix = sql_dup_text(s, 1),
					 .name = sql_dup_text(s, 2),
					 .created_ms = sqlite3_column_int64(s, 3),
					 .used_ms = sqlite3_column_int64(s, 4)};
		sql_copy_text(row.id, sizeof row.id, s, 0);
		if (!row.prefix || !row.name) {
			volume_row_finish(&row);
			return err_sys(e, "database", ENOMEM, "volume %s", row.id);
		}
		fn(arg, &row);
	}
	return r;
}
