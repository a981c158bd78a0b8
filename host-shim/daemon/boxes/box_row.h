/* The row of a box: what the database knows of it. These functions are store work; each runs on the store's
 * thread. */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "boxes.h"
#include "process.h"
#include "ulid.h"

/* What changes during a box's life. */
struct box_life {
	enum box_status status;
	int64_t updated_ms;
	uint64_t boot_ms;
	struct process_id vmm;      /* tenon-vmm, from before it runs until after it has ended */
	char error[BOX_ERROR_SIZE]; /* "" unless failed */
	char main_id[33];           /* the main command's execution, of the latest start; "" if none */
	bool has_exit;              /* it has ended */
	int exit_code;              /* then; as an execution's */
};

struct box_row { /* strings owned; NULL where absent */
	char id[ULID_LENGTH + 1];
	char *prefix; /* whose it is */
	char *name, *image, *working_dir;
	char *labels; /* a JSON object */
	char **env;   /* NAME=value, NULL-terminated, never NULL itself */
	unsigned cpus, memory_mib, disk_size_gb;
	bool auto_remove, auto_resume;
	int64_t auto_stop, auto_delete;
	int64_t created_ms;
	/* Ids of layers: the one it writes into; the one it is about to write into, or does already. "":
	 * none. As loaded; in memory struct box has the layers themselves. */
	char disk[ULID_LENGTH + 1], disk_next[ULID_LENGTH + 1];
	struct box_settings settings;
	struct box_life life;
};

/* Copies the spec, with defaults where it is silent. -ENOMEM; *row is finished by the caller in any case. */
int box_row_init(struct box_row *row, const struct box_spec *spec);
/* A new box like `from`, with an id of its own and that name, which may be NULL. As box_row_init. */
int box_row_init_like(struct box_row *row, const struct box_row *from, const char *name);
void box_row_finish(struct box_row *row);

/* -EEXIST if the name is taken. */
int box_row_insert(sqlite3 *db, const struct box_row *row, struct err *e);
int box_row_update(sqlite3 *db, const char *id, const struct box_life *life, struct err *e);
/* Which layers are its disk from now on; next "": no other is on its way. */
int box_row_set_disk(sqlite3 *db, const char *id, const char *disk, const char *next, struct err *e);
/* With its snapshots. */
int box_row_delete(sqlite3 *db, const char *id, struct err *e);
/* Calls fn for each row, oldest first; fn takes what the row owns. */
int box_row_each(sqlite3 *db, void (*fn)(void *arg, struct box_row *row), void *arg, struct err *e);
