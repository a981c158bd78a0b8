#include "box_row.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/store/sql.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "state.h"
#include "strings.h"

/* ---- in memory ------------------------------------------------------------------------------------ */

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

int box_row_init(struct box_row *row, const struct box_spec *spec)
{
	*row = (struct box_row){
		.prefix = strdup(spec->prefix),
		.name = copy(spec->name),
		.image = strdup(spec->image ? spec->image : BOX_IMAGE),
		.working_dir = copy(spec->working_dir),
		.labels = strdup(spec->labels_json ? spec->labels_json : "{}"),
		.env = strings_copy(spec->env),
		.cpus = spec->cpus ? spec->cpus : BOX_CPUS,
		.memory_mib = spec->memory_mib ? spec->memory_mib : BOX_MEMORY_MIB,
		.disk_size_gb = spec->disk_size_gb ? spec->disk_size_gb : BOX_DISK_GB,
		.auto_remove = spec->auto_remove,
		.auto_resume = spec->auto_resume,
		.auto_stop = spec->auto_stop,
		.auto_delete = spec->auto_delete,
		.created_ms = (int64_t)clock_ms(CLOCK_REALTIME),
		.life.status = BOX_CONFIGURED,
	};
	row->life.updated_ms = row->created_ms;
	ulid_make(row->id);
	if (spec->settings && settings_copy(&row->settings, spec->settings) < 0)
		return -ENOMEM;
	bool whole = row->prefix && row->image && row->labels && row->env && (row->name || !spec->name) &&
		     (row->working_dir || !spec->working_dir);
	return whole ? 0 : -ENOMEM;
}

int box_row_init_like(struct box_row *row, const struct box_row *from, const char *name)
{
	struct box_spec spec = {
		.prefix = from->prefix,
		.name = name,
		.image = from->image,
		.cpus = from->cpus,
		.memory_mib = from->memory_mib,
		.disk_size_gb = from->disk_size_gb,
		.env = (const char *const *)from->env,
		.working_dir = from->working_dir,
		.auto_remove = from->auto_remove,
		.auto_stop = from->auto_stop,
		.auto_delete = from->auto_delete,
		.auto_resume = from->auto_resume,
		.labels_json = from->labels,
		.settings = &from->settings,
	};
	return box_row_init(row, &spec);
}

void box_row_finish(struct box_row *row)
{
	strings_free(row->env);
	free(row->prefix);
	free(row->name);
	free(row->image);
	free(row->working_dir);
	free(row->labels);
	settings_finish(&row->settings);
}

/* ---- in the database ------------------------------------------------------------------------------ */

static char *env_to_json(char *const *env)
{
	json_t *list = json_array();
	/* Any bytes: JSON text cannot hold them all, so each byte beyond ASCII goes as the code point of that
	 * number. */
	for (; list && *env; env++) {
		size_t len = strlen(*env), n = 0;
		char *wide = malloc(2 * len + 1);
		for (size_t i = 0; wide && i < len; i++) {
			unsigned char c = (unsigned char)(*env)[i];
			if (c >= 0x80)
				wide[n++] = (char)(0xc0 | c >> 6);
			wide[n++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
		}
		if (!wide || json_array_append_new(list, json_stringn(wide, n)) < 0) {
			json_decref(list);
			list = NULL;
		}
		free(wide);
	}
	char *text = list ? json_dumps(list, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(list);
	return text;
}

static char **env_from_json(const char *text)
{
	json_t *list = text ? json_loads(text, 0, NULL) : NULL;
	char **env = calloc(json_array_size(list) + 1, sizeof *env);
	for (size_t i = 0, n = 0; env && i < json_array_size(list); i++) {
		const char *wide = json_string_value(json_array_get(list, i));
		char *out = wide ? malloc(strlen(wide) + 1) : NULL;
		if (!out)
			continue;
		env[n++] = out;
		for (; *wide; wide++) {
			unsigned char c = (unsigned char)*wide;
			if (c >= 0x80 && wide[1])
				c = (unsigned char)(c << 6 | (*++wide & 0x3f));
			*out++ = (char)c;
		}
		*out = '\0';
	}
	json_decref(list);
	return env;
}

static void bind_life(sqlite3_stmt *s, const struct box_life *life)
{
	sql_bind_text(s, 1, state_name(life->status));
	sqlite3_bind_int64(s, 2, life->updated_ms);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)life->boot_ms);
	sqlite3_bind_int64(s, 4, life->vmm.pid);
	sqlite3_bind_int64(s, 5, (sqlite3_int64)life->vmm.ticks);
	sql_bind_text(s, 6, life->vmm.boot);
	sql_bind_text(s, 7, life->error);
	sql_bind_text(s, 8, life->main_id);
	if (life->has_exit)
		sqlite3_bind_int(s, 9, life->exit_code);
}

int box_row_insert(sqlite3 *db, const struct box_row *row, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(
		db,
		"INSERT INTO boxes (status, updated_ms, boot_ms, vmm_pid, vmm_ticks, vmm_boot, "
		"error, main_execution, exit_code, id, name, image,"
		" working_dir, labels, env, cpus, memory_mib, disk_size_gb, auto_remove, "
		"auto_resume, auto_stop,"
		" auto_delete, created_ms, prefix, settings, disk) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
		"?, ?, ?, ?, ?, ?, "
		"?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		&s, e);
	if (r < 0)
		return r;
	_cleanup_free_ char *settings = settings_to_json(&row->settings);
	char *env = env_to_json(row->env);
	if (!env || !settings) {
		free(env);
		return err_sys(e, "database", ENOMEM, "environment and settings");
	}
	bind_life(s, &row->life);
	sql_bind_text(s, 10, row->id);
	sql_bind_text(s, 11, row->name);
	sql_bind_text(s, 12, row->image);
	sql_bind_text(s, 13, row->working_dir);
	sql_bind_text(s, 14, row->labels);
	sqlite3_bind_text(s, 15, env, -1, free);
	sqlite3_bind_int64(s, 16, row->cpus);
	sqlite3_bind_int64(s, 17, row->memory_mib);
	sqlite3_bind_int64(s, 18, row->disk_size_gb);
	sqlite3_bind_int(s, 19, row->auto_remove);
	sqlite3_bind_int(s, 20, row->auto_resume);
	sqlite3_bind_int64(s, 21, row->auto_stop);
	sqlite3_bind_int64(s, 22, row->auto_delete);
	sqlite3_bind_int64(s, 23, row->created_ms);
	sql_bind_text(s, 24, row->prefix);
	sql_bind_text(s, 25, settings);
	sql_bind_text(s, 26, row->disk);
	return sql_step(db, s, e);
}

int box_row_update(sqlite3 *db, const char *id, const struct box_life *life, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(
		db,
		"UPDATE boxes SET status = ?, updated_ms = ?, boot_ms = ?, vmm_pid = ?, vmm_ticks = ?,"
		" vmm_boot = ?, error = ?, main_execution = ?, exit_code = ? WHERE id = ?",
		&s, e);
	if (r < 0)
		return r;
	bind_life(s, life);
	sql_bind_text(s, 10, id);
	return sql_step(db, s, e);
}

int box_row_set_disk(sqlite3 *db, const char *id, const char *disk, const char *next, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "UPDATE boxes SET disk = ?, disk_next = ? WHERE id = ?", &s, e);
	if (r < 0)
		return r;
	sql_bind_text(s, 1, disk);
	sql_bind_text(s, 2, next);
	sql_bind_text(s, 3, id);
	return sql_step(db, s, e);
}

int box_row_delete(sqlite3 *db, const char *id, struct err *e)
{
	int r = sql_run_for(db, "DELETE FROM boxes WHERE id = ?", id, e);
	return r < 0 ? r : sql_run_for(db, "DELETE FROM snapshots WHERE box_id = ?", id, e);
}

static int read_row(sqlite3_stmt *s, struct box_row *row, struct err *e)
{
	*row = (struct box_row){
		.prefix = sql_dup_text(s, 21),
		.name = sql_dup_text(s, 1),
		.image = sql_dup_text(s, 2),
		.working_dir = sql_dup_text(s, 3),
		.labels = sql_dup_text(s, 4),
		.env = env_from_json((const char *)sqlite3_column_text(s, 5)),
		.cpus = (unsigned)sqlite3_column_int64(s, 6),
		.memory_mib = (unsigned)sqlite3_column_int64(s, 7),
		.disk_size_gb = (unsigned)sqlite3_column_int64(s, 8),
		.auto_remove = sqlite3_column_int(s, 9),
		.auto_resume = sqlite3_column_int(s, 10),
		.auto_stop = sqlite3_column_int64(s, 11),
		.auto_delete = sqlite3_column_int64(s, 12),
		.created_ms = sqlite3_column_int64(s, 13),
		.life.updated_ms = sqlite3_column_int64(s, 15),
		.life.boot_ms = (uint64_t)sqlite3_column_int64(s, 16),
		.life.vmm.pid = (pid_t)sqlite3_column_int64(s, 17),
		.life.vmm.ticks = (uint64_t)sqlite3_column_int64(s, 18),
	};
	sql_copy_text(row->id, sizeof row->id, s, 0);
	sql_copy_text(row->life.vmm.boot, sizeof row->life.vmm.boot, s, 19);
	sql_copy_text(row->life.error, sizeof row->life.error, s, 20);
	sql_copy_text(row->disk, sizeof row->disk, s, 23);
	sql_copy_text(row->disk_next, sizeof row->disk_next, s, 24);
	if (sqlite3_column_text(s, 25))
		sql_copy_text(row->life.main_id, sizeof row->life.main_id, s, 25);
	row->life.has_exit = sqlite3_column_type(s, 26) == SQLITE_INTEGER;
	row->life.exit_code = sqlite3_column_int(s, 26);
	if (!row->prefix || !row->image || !row->labels || !row->env)
		return err_sys(e, "database", ENOMEM, "box %s", row->id);
	int r = settings_from_json(&row->settings, (const char *)sqlite3_column_text(s, 22), e);
	if (r < 0)
		return r;
	if (state_parse(&row->life.status, (const char *)sqlite3_column_text(s, 14)) < 0)
		return err_set(e, "database", EINVAL, "box %s has a status that this tenond does not know",
			       row->id);
	return 0;
}

int box_row_each(sqlite3 *db, void (*fn)(void *arg, struct box_row *row), void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db,
			    "SELECT id, name, image, working_dir, labels, env, cpus, memory_mib, "
			    "disk_size_gb, auto_remove,"
			    " auto_resume, auto_stop, auto_delete, created_ms, status, updated_ms, boot_ms, "
			    "vmm_pid, vmm_ticks,"
			    " vmm_boot, error, prefix, settings, disk, disk_next, main_execution, exit_code "
			    "FROM boxes ORDER BY created_ms, rowid",
			    &s, e);
	while (r >= 0 && (r = sql_step(db, s, e)) > 0) {
		struct box_row row;
		r = read_row(s, &row, e);
		if (r < 0)
			box_row_finish(&row);
		else
			fn(arg, &row);
	}
	return r;
}
