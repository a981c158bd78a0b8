/* Every table of the database and how one version became the next. */
#pragma once

#include <sqlite3.h>

#include "proto/err.h"

/* Brings the database to the newest version, each step in a transaction of its own. -ENOTSUP if a newer tenond
 * has been here: its tables are not ours to guess at. */
int schema_migrate(sqlite3 *db, struct err *e);
