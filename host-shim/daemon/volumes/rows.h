/* Volumes in the database: store work, each call on the store's thread. */
#pragma once

#include <sqlite3.h>
#include <stdint.h>

#include "volumes.h"

struct volume_row { /* strings owned */
	char id[VOLUME_ID_SIZE];
	char *prefix, *name;
	int64_t created_ms, used_ms;
};

void volume_row_finish(struct volume_row *row);

/* -EEXIST if the name is taken. */
int volume_row_insert(sqlite3 *db, const struct volume_row *row, struct err *e);
int volume_row_set_used(sqlite3 *db, const char *id, int64_t used_ms, struct err *e);
int volume_row_delete(sqlite3 *db, const char *id, struct err *e);
/* Calls fn for each row, oldest first; fn takes what the row owns. */
int volume_row_each(sqlite3 *db, void (*fn)(void *arg, struct volume_row *row), void *arg, struct err *e);
