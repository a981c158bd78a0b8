#include "schema.h"

#include <errno.h>
#include <stdio.h>

#include "sql.h"

/* Entry n takes version n to n+1 (PRAGMA user_version). An entry that was released is never edited. */
static const char *const steps[] = {
	/* Text that a person or a guest chose is kept as it came; JSON columns hold what jansson printed. */
	"CREATE TABLE meta ("
	"	key TEXT PRIMARY KEY,"
	"	value"
	") WITHOUT ROWID;"

	"CREATE TABLE boxes ("
	"	id TEXT PRIMARY KEY,"
	"	name TEXT UNIQUE,"
	"	image TEXT NOT NULL,"
	"	cpus INTEGER NOT NULL,"
	"	memory_mib INTEGER NOT NULL,"
	"	disk_size_gb INTEGER NOT NULL,"
	"	env TEXT NOT NULL,"    /* JSON array of NAME=value */
	"	labels TEXT NOT NULL," /* JSON object */
	"	working_dir TEXT,"
	"	auto_remove INTEGER NOT NULL,"
	"	auto_stop INTEGER NOT NULL,"
	"	auto_delete INTEGER NOT NULL,"
	"	auto_resume INTEGER NOT NULL,"
	"	created_ms INTEGER NOT NULL,"
	"	updated_ms INTEGER NOT NULL,"
	"	status TEXT NOT NULL," /* boxes/state.c names them */
	"	error TEXT NOT NULL,"
	"	boot_ms INTEGER NOT NULL,"
	"	vmm_pid INTEGER NOT NULL,"   /* 0: no tenon-vmm was started since the last end */
	"	vmm_ticks INTEGER NOT NULL," /* /proc/pid/stat field 22 */
	"	vmm_boot TEXT NOT NULL"      /* the host's boot id: pids and ticks mean nothing in another */
	");"

	"CREATE TABLE executions ("
	"	id TEXT PRIMARY KEY," /* 32 hex digits */
	"	box_id TEXT NOT NULL,"
	"	boot_id BLOB NOT NULL,"    /* of the boot it was started in */
	"	status TEXT NOT NULL,"     /* executions/rows.c names them */
	"	kill INTEGER NOT NULL,"    /* asked for */
	"	drained INTEGER NOT NULL," /* the agent has no more of it */
	"	exit_code INTEGER NOT NULL,"
	"	has_exit INTEGER NOT NULL,"
	"	reason TEXT NOT NULL,"
	"	spec BLOB," /* the packed Exec; NULL once reaped */
	"	started_ms INTEGER NOT NULL,"
	"	ended_ms INTEGER NOT NULL,"
	"	duration_ms INTEGER NOT NULL,"
	"	finish INTEGER NOT NULL,"    /* log position at which readers get the exit */
	"	log_bytes INTEGER NOT NULL," /* on disk, at the end */
	"	seen INTEGER NOT NULL,"      /* log position that an attached client has confirmed */
	"	reaped_ms INTEGER NOT NULL"
	") WITHOUT ROWID;"
	"CREATE INDEX executions_box ON executions (box_id);",

	/* Prefixes: a box belongs to one, and its name is unique there only. */
	"CREATE TABLE prefixes ("
	"	prefix TEXT PRIMARY KEY,"
	"	max_boxes INTEGER NOT NULL,"
	"	created_ms INTEGER NOT NULL"
	") WITHOUT ROWID;"

	"CREATE TABLE credentials ("
	"	id TEXT PRIMARY KEY," /* 16 hex digits, part of what the client sends */
	"	kind TEXT NOT NULL,"  /* auth/credentials.c names them */
	"	prefix TEXT NOT NULL,"
	"	name TEXT NOT NULL,"
	"	scopes TEXT NOT NULL," /* as they were asked for, a space between each two */
	"	hash BLOB NOT NULL,"   /* SHA-256 of the secret */
	"	parent TEXT NOT NULL," /* of a token: its client */
	"	token_seconds INTEGER NOT NULL,"
	"	created_ms INTEGER NOT NULL,"
	"	expires_ms INTEGER NOT NULL," /* 0: never */
	"	used_ms INTEGER NOT NULL,"
	"	UNIQUE (prefix, kind, name)"
	") WITHOUT ROWID;"

	"CREATE TABLE boxes_with_prefix ("
	"	id TEXT PRIMARY KEY,"
	"	prefix TEXT NOT NULL,"
	"	name TEXT,"
	"	image TEXT NOT NULL,"
	"	cpus INTEGER NOT NULL,"
	"	memory_mib INTEGER NOT NULL,"
	"	disk_size_gb INTEGER NOT NULL,"
	"	env TEXT NOT NULL,"
	"	labels TEXT NOT NULL,"
	"	working_dir TEXT,"
	"	auto_remove INTEGER NOT NULL,"
	"	auto_stop INTEGER NOT NULL,"
	"	auto_delete INTEGER NOT NULL,"
	"	auto_resume INTEGER NOT NULL,"
	"	created_ms INTEGER NOT NULL,"
	"	updated_ms INTEGER NOT NULL,"
	"	status TEXT NOT NULL,"
	"	error TEXT NOT NULL,"
	"	boot_ms INTEGER NOT NULL,"
	"	vmm_pid INTEGER NOT NULL,"
	"	vmm_ticks INTEGER NOT NULL,"
	"	vmm_boot TEXT NOT NULL,"
	"	UNIQUE (prefix, name)"
	");"
	"INSERT INTO boxes_with_prefix SELECT id, 'default', name, image, cpus, memory_mib, disk_size_gb, "
	"env,"
	" labels, working_dir, auto_remove, auto_stop, auto_delete, auto_resume, created_ms, updated_ms, "
	"status,"
	" error, boot_ms, vmm_pid, vmm_ticks, vmm_boot FROM boxes ORDER BY rowid;"
	"DROP TABLE boxes;"
	"ALTER TABLE boxes_with_prefix RENAME TO boxes;",

	"CREATE TABLE replies (" /* the first ones to requests with an Idempotency-Key */
	"	prefix TEXT NOT NULL,"
	"	key TEXT NOT NULL,"
	"	fingerprint BLOB NOT NULL,"
	"	created_ms INTEGER NOT NULL,"
	"	status INTEGER NOT NULL," /* 0: begun, no reply yet */
	"	location TEXT NOT NULL,"
	"	body BLOB NOT NULL,"
	"	UNIQUE (prefix, key)"
	");"
	"CREATE INDEX replies_created ON replies (created_ms);",

	/* JSON, boxes/settings.c */
	"ALTER TABLE boxes ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';",

	"CREATE TABLE images ("
	"	digest TEXT PRIMARY KEY," /* of the manifest */
	"	size INTEGER NOT NULL,"   /* of the squashfs */
	"	config TEXT NOT NULL,"    /* the image's own, JSON */
	"	created_ms INTEGER NOT NULL"
	") WITHOUT ROWID;"
	"CREATE TABLE image_names ("
	"	prefix TEXT NOT NULL,"
	"	reference TEXT NOT NULL," /* whole: docker.io/library/alpine:latest */
	"	digest TEXT NOT NULL,"
	"	cached_ms INTEGER NOT NULL,"
	"	PRIMARY KEY (prefix, reference)"
	") WITHOUT ROWID;",

	"CREATE TABLE volumes ("
	"	id TEXT PRIMARY KEY,"
	"	prefix TEXT NOT NULL,"
	"	name TEXT NOT NULL,"
	"	created_ms INTEGER NOT NULL,"
	"	used_ms INTEGER NOT NULL," /* 0: not yet */
	"	UNIQUE (prefix, name)"
	") WITHOUT ROWID;",

	/* Disks, disks/layers.h. One that was made before has its box's id. */
	"CREATE TABLE layers ("
	"	id TEXT PRIMARY KEY,"
	"	below TEXT NOT NULL,"     /* the layer it lies on; '' : none */
	"	written INTEGER NOT NULL" /* a VM has had it */
	") WITHOUT ROWID;"
	"CREATE TABLE snapshots ("
	"	id TEXT PRIMARY KEY,"
	"	box_id TEXT NOT NULL,"
	"	name TEXT NOT NULL,"
	"	layer TEXT NOT NULL,"
	"	created_ms INTEGER NOT NULL,"
	"	disk_bytes INTEGER NOT NULL,"
	"	size_bytes INTEGER NOT NULL,"
	"	pause_us INTEGER NOT NULL,"
	"	UNIQUE (box_id, name)"
	");"
	"ALTER TABLE boxes ADD COLUMN disk TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE boxes ADD COLUMN disk_next TEXT NOT NULL DEFAULT '';" /* boxes/box_disk.c */
	"UPDATE boxes SET disk = id;"
	"INSERT INTO layers SELECT id, '', 1 FROM boxes;",

	/* The main command of a box: its execution of the latest start, and how that ended. */
	("ALTER TABLE boxes ADD COLUMN main_execution TEXT;"
	 "ALTER TABLE boxes ADD COLUMN exit_code INTEGER;"),
};

#define NEWEST ((int)(sizeof steps / sizeof *steps))

static int version_of(sqlite3 *db, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "PRAGMA user_version", &s, e);
	if (r < 0)
		return r;
	r = sql_step(db, s, e);
	return r < 0 ? r : sqlite3_column_int(s, 0);
}

static int take_step(sqlite3 *db, int version, struct err *e)
{
	char stamp[64];
	snprintf(stamp, sizeof stamp, "PRAGMA user_version = %d", version + 1);

	int r = sql_exec(db, "BEGIN IMMEDIATE", e);
	if (r < 0)
		return r;
	r = sql_exec(db, steps[version], e);
	if (r == 0)
		r = sql_exec(db, stamp, e);
	if (r == 0)
		r = sql_exec(db, "COMMIT", e);
	if (r < 0)
		sql_exec(db, "ROLLBACK", NULL);
	return r;
}

int schema_migrate(sqlite3 *db, struct err *e)
{
	int version = version_of(db, e);
	if (version > NEWEST)
		return err_set(e, "database", ENOTSUP,
			       "the state is of version %d, made by a newer tenond; this one knows %d",
			       version, NEWEST);
	while (version >= 0 && version < NEWEST) {
		int r = take_step(db, version, e);
		version = r < 0 ? r : version + 1;
	}
	return version < 0 ? version : 0;
}
