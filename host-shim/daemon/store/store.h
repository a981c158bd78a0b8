/* SQLite behind one worker thread. The loop thread never touches the database: it submits work, which runs in
 * order, and is told when its effect is committed. WAL, synchronous=NORMAL: a commit survives the death of
 * tenond at any instant; the last ones may be lost with the host, and so are the VMs that they spoke of. */
#pragma once

#include <sqlite3.h>
#include <uv.h>

#include "proto/err.h"

struct store;

/* Runs on the store's thread, inside a savepoint of its own; a negative return rolls back what it did, and
 * only that. It may run a second time if the transaction around it fell: it must not depend on what it left
 * in arg. */
typedef int (*store_work_fn)(sqlite3 *db, void *arg, struct err *e);
/* Runs on the loop thread, in submission order, after commit (status 0) or failure (negative errno, e set).
 */
typedef void (*store_done_fn)(void *arg, int status, const struct err *e);

/* Opens (creates, migrates) the database file and starts the thread. */
int store_open(struct store **out, uv_loop_t *loop, const char *path, struct err *e);
/* Finishes what was submitted (what done functions submit meanwhile, too), calls its done functions, stops
 * the thread. The memory goes when the loop has run once more. NULL is fine. */
void store_close(struct store *s);
/* done may be NULL. arg stays the caller's and must live until done has run. Adjacent submissions share one
 * commit. */
void store_submit(struct store *s, store_work_fn work, store_done_fn done, void *arg);
/* Likewise, for what nobody waits for: it shares the next commit, or has one of its own STORE_LATER_MS later.
 */
#define STORE_LATER_MS 50
void store_submit_later(struct store *s, store_work_fn work, store_done_fn done, void *arg);
/* The same, waiting: only for start-up, before the loop runs. */
int store_run(struct store *s, store_work_fn work, void *arg, struct err *e);
