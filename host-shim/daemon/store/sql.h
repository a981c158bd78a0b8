/* What every piece of store work needs of SQLite: statements that release themselves and errors as struct
 * err. */
#pragma once

#include <sqlite3.h>
#include <stddef.h>

#include "proto/err.h"

static inline void sql_cleanup_stmt(sqlite3_stmt **s)
{
	sqlite3_finalize(*s);
}
#define _cleanup_stmt_ __attribute__((cleanup(sql_cleanup_stmt)))

static inline void sql_cleanup_kept(sqlite3_stmt **s)
{
	sqlite3_reset(*s); /* NULL is fine */
	sqlite3_clear_bindings(*s);
}
#define _cleanup_kept_ __attribute__((cleanup(sql_cleanup_kept)))

/* The connection's last error as -errno (ENOSPC, EEXIST for a broken UNIQUE, EBUSY, ENOMEM; EIO for the
 * rest). */
int sql_err(sqlite3 *db, struct err *e, const char *doing);
/* Runs statements that return no rows. */
int sql_exec(sqlite3 *db, const char *sql, struct err *e);
int sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct err *e);
/* For what each execution does: the statement stays with the connection, to be used again. Released by
 * _cleanup_kept_, ended by sql_close. sql_run steps one that returns no rows. */
int sql_keep(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct err *e);
int sql_run(sqlite3 *db, const char *sql, struct err *e);
/* Closes the connection with the statements kept; NULL is fine. */
void sql_close(sqlite3 *db);
/* Runs a statement that returns no rows and has one parameter, a text. */
int sql_run_for(sqlite3 *db, const char *sql, const char *text, struct err *e);
/* 1: a row is there; 0: done; negative errno. */
int sql_step(sqlite3 *db, sqlite3_stmt *s, struct err *e);
/* Binds text that lives until the statement is stepped; NULL binds NULL. Index from 1. */
void sql_bind_text(sqlite3_stmt *s, int index, const char *text);
/* A copy of a text column, NULL if it is NULL (or there is no memory). Index from 0. */
char *sql_dup_text(sqlite3_stmt *s, int index);
/* A text column into out, cut at cap - 1 bytes; "" if it is NULL. Index from 0. */
void sql_copy_text(char *out, size_t cap, sqlite3_stmt *s, int index);
