/* Images and their names in the database. Store work: each runs on the store's thread. */
#pragma once

#include <sqlite3.h>
#include <stdint.h>

#include "digest.h"
#include "proto/err.h"

struct image_row {
	char digest[DIGEST_SIZE];
	uint64_t size;
	const char *config; /* the image's own config, JSON */
	int64_t created_ms;
};
struct name_row {
	const char *prefix, *reference;
	char digest[DIGEST_SIZE];
	int64_t cached_ms;
};

/* Nothing if it is there. */
int image_row_insert(sqlite3 *db, const struct image_row *row, struct err *e);
int image_row_delete(sqlite3 *db, const char *digest, struct err *e);
/* The name leads here from now on, wherever it led before. */
int name_row_put(sqlite3 *db, const struct name_row *row, struct err *e);
int name_row_delete(sqlite3 *db, const char *prefix, const char *reference, struct err *e);
/* What fn is given is valid during the call. */
int image_rows_each(sqlite3 *db, void (*fn)(void *arg, const struct image_row *row), void *arg,
		    struct err *e);
int name_rows_each(sqlite3 *db, void (*fn)(void *arg, const struct name_row *row), void *arg, struct err *e);
