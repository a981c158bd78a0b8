#include "host-shim/daemon/executions/rows.h"

#include <errno.h>
#include <nettle/base16.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/store/sql.h"

static const char *const state_names[] = {
	[ROW_RUNNING] = "running",     [ROW_COMPLETED] = "completed", [ROW_KILLED] = "killed",
	[ROW_TIMED_OUT] = "timed_out", [ROW_REAPED] = "reaped",
};

void id_to_hex(char out[33], const uint8_t id[16])
{
	base16_encode_update(out, 16, id);
	out[32] = '\0';
}

bool id_from_hex(uint8_t id[16], const char *hex)
{
	if (strlen(hex) != 32 || strspn(hex, "0123456789abcdef") != 32)
		return false;
	struct base16_decode_ctx c;
	size_t len = 16;
	base16_decode_init(&c);
	return base16_decode_update(&c, &len, id, 32, hex) && base16_decode_final(&c);
}

struct row_work {
	struct row row;
	store_done_fn done;
	void *arg;
	bool with_spec;
	size_t spec_len;
	uint8_t spec[];
};

static int put_work(sqlite3 *db, void *arg, struct err *e)
{
	static const char sql[] =
		"INSERT INTO executions (id, box_id, boot_id, status, kill, drained, has_exit, exit_code, "
		"reason, started_ms,"
		" ended_ms, duration_ms, finish, log_bytes, seen, reaped_ms, spec)"
		" VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)"
		" ON CONFLICT (id) DO UPDATE SET boot_id=?3, status=?4, kill=?5, drained=?6, has_exit=?7, "
		"exit_code=?8,"
		" reason=?9, started_ms=?10, ended_ms=?11, duration_ms=?12, finish=?13, log_bytes=?14, "
		"seen=?15,"
		" reaped_ms=?16, spec=CASE WHEN ?4='reaped' THEN NULL ELSE COALESCE(?17, spec) END";
	const struct row_work *w = arg;
	const struct row *row = &w->row;
	_cleanup_kept_ sqlite3_stmt *s = NULL;
	int r = sql_keep(db, sql, &s, e);
	if (r < 0)
		return r;
	char hex[33];
	id_to_hex(hex, row->id);
	sql_bind_text(s, 1, hex);
	sql_bind_text(s, 2, row->box_id);
	sqlite3_bind_blob(s, 3, row->boot_id, sizeof row->boot_id, SQLITE_STATIC);
	sql_bind_text(s, 4, state_names[row->state]);
	sqlite3_bind_int(s, 5, row->kill);
	sqlite3_bind_int(s, 6, row->drained);
	sqlite3_bind_int(s, 7, row->has_exit);
	sqlite3_bind_int(s, 8, row->exit_code);
	sql_bind_text(s, 9, row->reason);
	sqlite3_bind_int64(s, 10, (sqlite3_int64)row->started_ms);
	sqlite3_bind_int64(s, 11, (sqlite3_int64)row->ended_ms);
	sqlite3_bind_int64(s, 12, (sqlite3_int64)row->duration_ms);
	sqlite3_bind_int64(s, 13, (sqlite3_int64)row->finish);
	sqlite3_bind_int64(s, 14, (sqlite3_int64)row->log_bytes);
	sqlite3_bind_int64(s, 15, (sqlite3_int64)row->seen);
	sqlite3_bind_int64(s, 16, (sqlite3_int64)row->reaped_ms);
	if (w->with_spec)
		sqlite3_bind_blob(s, 17, w->spec, (int)w->spec_len, SQLITE_STATIC);
	return sql_step(db, s, e);
}

static void work_done(void *arg, int status, const struct err *e)
{
	struct row_work *w = arg;
	if (w->done)
		w->done(w->arg, status, e);
	free(w);
}

int rows_put_later(struct store *s, const struct row *row, store_done_fn done, void *arg)
{
	struct row_work *w = malloc(sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct row_work){.row = *row, .done = done, .arg = arg};
	store_submit_later(s, put_work, work_done, w);
	return 0;
}

int rows_put(struct store *s, const struct row *row, const void *spec, size_t spec_len, store_done_fn done,
	     void *arg)
{
	struct row_work *w = malloc(sizeof *w + spec_len);
	if (!w)
		return -ENOMEM;
	*w = (struct row_work){
		.row = *row, .done = done, .arg = arg, .with_spec = spec != NULL, .spec_len = spec_len};
	if (spec)
		memcpy(w->spec, spec, spec_len);
	store_submit(s, put_work, work_done, w);
	return 0;
}

static int delete_work(sqlite3 *db, void *arg, struct err *e)
{
	const struct row_work *w = arg;
	const char *sql = w->row.box_id[0] ? "DELETE FROM executions WHERE box_id=?"
					   : "DELETE FROM executions WHERE id=?";
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, sql, &s, e);
	if (r < 0)
		return r;
	char hex[33];
	id_to_hex(hex, w->row.id);
	sql_bind_text(s, 1, w->row.box_id[0] ? w->row.box_id : hex);
	return sql_step(db, s, e);
}

/* By id, or a whole box if id is NULL. */
static void submit_delete(struct store *s, const struct row *which)
{
	struct row_work *w = malloc(sizeof *w);
	if (!w)
		return; /* the row stays, and is found to have no process at the next start */
	*w = (struct row_work){.row = *which};
	store_submit(s, delete_work, work_done, w);
}

void rows_delete(struct store *s, const uint8_t id[16])
{
	struct row row = {0};
	memcpy(row.id, id, sizeof row.id);
	submit_delete(s, &row);
}

void rows_delete_box(struct store *s, const char *box_id)
{
	struct row row = {0};
	strncpy(row.box_id, box_id, BOX_ID_MAX);
	submit_delete(s, &row);
}

struct load_work {
	void (*each)(void *arg, const struct row *row);
	void *arg;
};

static bool read_row(sqlite3_stmt *s, struct row *row)
{
	const char *hex = (const char *)sqlite3_column_text(s, 0);
	const char *state = (const char *)sqlite3_column_text(s, 3);
	*row = (struct row){0};
	if (!hex || !state || !id_from_hex(row->id, hex) ||
	    sqlite3_column_bytes(s, 2) != (int)sizeof row->boot_id)
		return false;
	sql_copy_text(row->box_id, sizeof row->box_id, s, 1);
	memcpy(row->boot_id, sqlite3_column_blob(s, 2), sizeof row->boot_id);
	unsigned n = sizeof state_names / sizeof state_names[0], i = 0;
	while (i < n && strcmp(state, state_names[i]) != 0)
		i++;
	if (i == n)
		return false;
	row->state = (enum row_state)i;
	row->kill = sqlite3_column_int(s, 4);
	row->drained = sqlite3_column_int(s, 5);
	row->has_exit = sqlite3_column_int(s, 6);
	row->exit_code = sqlite3_column_int(s, 7);
	sql_copy_text(row->reason, sizeof row->reason, s, 8);
	row->started_ms = (uint64_t)sqlite3_column_int64(s, 9);
	row->ended_ms = (uint64_t)sqlite3_column_int64(s, 10);
	row->duration_ms = (uint64_t)sqlite3_column_int64(s, 11);
	row->finish = (uint64_t)sqlite3_column_int64(s, 12);
	row->log_bytes = (uint64_t)sqlite3_column_int64(s, 13);
	row->seen = (uint64_t)sqlite3_column_int64(s, 14);
	row->reaped_ms = (uint64_t)sqlite3_column_int64(s, 15);
	return true;
}

static int load_rows(sqlite3 *db, void *arg, struct err *e)
{
	static const char sql[] = "SELECT id, box_id, boot_id, status, kill, drained, has_exit, exit_code, "
				  "reason, started_ms, ended_ms,"
				  " duration_ms, finish, log_bytes, seen, reaped_ms FROM executions ORDER BY "
				  "reaped_ms, ended_ms, started_ms";
	struct load_work *w = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	struct row row;
	int r = sql_prepare(db, sql, &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0)
		if (read_row(s, &row))
			w->each(w->arg, &row);
	return r;
}

int rows_load(struct store *s, void (*each)(void *arg, const struct row *row), void *arg, struct err *e)
{
	struct load_work w = {each, arg};
	return store_run(s, load_rows, &w, e);
}
