#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "proto/cleanup.h"
#include "schema.h"
#include "sql.h"

#define BATCH_MAX 256 /* bounds how long the first of a batch waits for its commit */
/* SQLite begins its log anew at 4 MiB, and may be late. */
#define LOG_RESERVE (8 << 20)
#define DATABASE_CHUNK (1 << 20)

struct work {
	STAILQ_ENTRY(work) entry;
	store_work_fn work;
	store_done_fn done;
	void *arg;
	bool waited; /* store_run's: lives on its stack, is signalled and not queued for the loop */
	bool finished;
	int status;
	struct err err;
};
STAILQ_HEAD(work_list, work);

struct store {
	sqlite3 *db; /* the worker's alone once it runs */
	pthread_t thread;
	uv_async_t async;
	uv_timer_t later; /* runs while there may be something queued that the worker was not told of */
	int handles;

	pthread_mutex_t mutex; /* over what follows */
	pthread_cond_t submitted, finished;
	struct work_list queue, done;
	bool busy, stopping;
};

/* ---- the worker ---------------------------------------------------------------------------------- */

static int run_one(struct store *s, struct work *w)
{
	w->err = (struct err){0};
	int r = sql_run(s->db, "SAVEPOINT work", &w->err);
	if (r < 0)
		return r;
	r = w->work(s->db, w->arg, &w->err);
	if (r < 0) {
		if (!w->err.errnum)
			err_sys(&w->err, "database", -r, "work failed");
		if (!sqlite3_get_autocommit(s->db))
			sql_run(s->db, "ROLLBACK TO work", NULL);
	}
	if (!sqlite3_get_autocommit(s->db))
		sql_run(s->db, "RELEASE work", NULL);
	return r < 0 ? r : 0;
}

static void fail(struct work *w, int status, const struct err *why)
{
	w->status = status;
	w->err = *why;
}

/* One transaction for the whole batch. SQLite may end it by itself (disk full, out of memory, I/O error):
 * then nothing of the batch is in, and each is tried again in a transaction of its own. */
static int run_shared(struct store *s, struct work_list *batch, struct err *e)
{
	int r = sql_run(s->db, "BEGIN IMMEDIATE", e);
	if (r < 0)
		return r;
	struct work *w;
	STAILQ_FOREACH (w, batch, entry) {
		w->status = run_one(s, w);
		if (sqlite3_get_autocommit(s->db)) {
			*e = w->err;
			return e->errnum ? -e->errnum
					 : err_set(e, "database", EIO, "the transaction was lost");
		}
	}
	r = sql_run(s->db, "COMMIT", e);
	if (r < 0)
		sql_run(s->db, "ROLLBACK", NULL);
	return r;
}

static void run_batch(struct store *s, struct work_list *batch)
{
	struct err why = {0};
	int r = run_shared(s, batch, &why);
	if (r == 0)
		return;
	struct work *first = STAILQ_FIRST(batch);
	if (!STAILQ_NEXT(first, entry)) {
		fail(first, r, &why);
		return;
	}
	struct work_list rest = STAILQ_HEAD_INITIALIZER(rest);
	STAILQ_CONCAT(&rest, batch);
	while (!STAILQ_EMPTY(&rest)) {
		struct work *w = STAILQ_FIRST(&rest);
		STAILQ_REMOVE_HEAD(&rest, entry);
		struct work_list alone = STAILQ_HEAD_INITIALIZER(alone);
		STAILQ_INSERT_TAIL(&alone, w, entry);
		run_batch(s, &alone);
		STAILQ_INSERT_TAIL(batch, w, entry);
	}
}

static void take_batch(struct store *s, struct work_list *batch)
{
	for (int n = 0; n < BATCH_MAX && !STAILQ_EMPTY(&s->queue); n++) {
		struct work *w = STAILQ_FIRST(&s->queue);
		STAILQ_REMOVE_HEAD(&s->queue, entry);
		STAILQ_INSERT_TAIL(batch, w, entry);
	}
}

static void hand_back(struct store *s, struct work_list *batch)
{
	while (!STAILQ_EMPTY(batch)) {
		struct work *w = STAILQ_FIRST(batch);
		STAILQ_REMOVE_HEAD(batch, entry);
		w->finished = true;
		if (!w->waited)
			STAILQ_INSERT_TAIL(&s->done, w, entry);
	}
}

static void *worker(void *arg)
{
	struct store *s = arg;
	struct work_list batch = STAILQ_HEAD_INITIALIZER(batch);

	pthread_mutex_lock(&s->mutex);
	for (;;) {
		while (STAILQ_EMPTY(&s->queue) && !s->stopping)
			pthread_cond_wait(&s->submitted, &s->mutex);
		if (STAILQ_EMPTY(&s->queue))
			break;
		take_batch(s, &batch);
		s->busy = true;
		pthread_mutex_unlock(&s->mutex);
		run_batch(s, &batch);
		pthread_mutex_lock(&s->mutex);
		hand_back(s, &batch);
		s->busy = false;
		pthread_cond_broadcast(&s->finished);
		/* Without the lock, which the loop wants as soon as it wakes. */
		pthread_mutex_unlock(&s->mutex);
		uv_async_send(&s->async);
		pthread_mutex_lock(&s->mutex);
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

/* ---- the loop's side ----------------------------------------------------------------------------- */

static void push(struct store *s, struct work *w, bool now)
{
	pthread_mutex_lock(&s->mutex);
	STAILQ_INSERT_TAIL(&s->queue, w, entry);
	pthread_mutex_unlock(&s->mutex);
	if (now)
		pthread_cond_signal(&s->submitted);
}

static void wake_worker(struct store *s)
{
	pthread_mutex_lock(&s->mutex);
	pthread_cond_signal(&s->submitted);
	pthread_mutex_unlock(&s->mutex);
}

static void on_later(uv_timer_t *t)
{
	wake_worker(t->data);
}

static void deliver(struct store *s)
{
	struct work_list done = STAILQ_HEAD_INITIALIZER(done);
	pthread_mutex_lock(&s->mutex);
	STAILQ_CONCAT(&done, &s->done);
	pthread_mutex_unlock(&s->mutex);

	while (!STAILQ_EMPTY(&done)) {
		struct work *w = STAILQ_FIRST(&done);
		STAILQ_REMOVE_HEAD(&done, entry);
		if (w->done)
			w->done(w->arg, w->status, w->status < 0 ? &w->err : NULL);
		free(w);
	}
}

static void on_async(uv_async_t *async)
{
	deliver(async->data);
}

static struct work *make_work(store_work_fn work, store_done_fn done, void *arg)
{
	struct work *w = malloc(sizeof *w);
	/* Without these bytes nothing that must be committed can be: there is no caller that could go on. */
	if (!w)
		abort();
	*w = (struct work){.work = work, .done = done, .arg = arg};
	return w;
}

void store_submit(struct store *s, store_work_fn work, store_done_fn done, void *arg)
{
	push(s, make_work(work, done, arg), true);
}

void store_submit_later(struct store *s, store_work_fn work, store_done_fn done, void *arg)
{
	push(s, make_work(work, done, arg), false);
	if (!uv_is_active((uv_handle_t *)&s->later))
		uv_timer_start(&s->later, on_later, STORE_LATER_MS, 0);
}

int store_run(struct store *s, store_work_fn work, void *arg, struct err *e)
{
	struct work w = {.work = work, .arg = arg, .waited = true};
	push(s, &w, true);
	pthread_mutex_lock(&s->mutex);
	while (!w.finished)
		pthread_cond_wait(&s->finished, &s->mutex);
	pthread_mutex_unlock(&s->mutex);
	if (w.status < 0 && e)
		*e = w.err;
	return w.status;
}

/* ---- life ---------------------------------------------------------------------------------------- */

/* On a host without room what is there must still be removable, and each removal is a write of ours: so the
 * log has its blocks beforehand (it is begun anew from its start, sqlite.org/wal.html), and the file grows by
 * more than it needs. Without room for even that it works as long as it does. */
static void reserve(sqlite3 *db, const char *path)
{
	int chunk = DATABASE_CHUNK;
	sqlite3_file_control(db, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk);
	sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	_cleanup_free_ char *log = NULL;
	if (asprintf(&log, "%s-wal", path) < 0)
		return;
	_cleanup_close_ int fd = open(log, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOG_RESERVE);
}

static int open_database(sqlite3 **out, const char *path, struct err *e)
{
	sqlite3 *db = NULL;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	int r = 0;
	if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK)
		r = db ? sql_err(db, e, path) : err_sys(e, "database", ENOMEM, "%s", path);
	if (r == 0) {
		/* A person's sqlite3 shell may hold the file for a moment. */
		sqlite3_busy_timeout(db, 5000);
		r = sql_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON",
			     e);
	}
	if (r == 0)
		r = schema_migrate(db, e);
	if (r < 0) {
		sql_close(db);
		return r;
	}
	reserve(db, path);
	*out = db;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	struct store *s = h->data;
	if (--s->handles == 0)
		free(s);
}

static void close_handles(struct store *s)
{
	uv_close((uv_handle_t *)&s->async, on_closed);
	uv_close((uv_handle_t *)&s->later, on_closed);
}

int store_open(struct store **out, uv_loop_t *loop, const char *path, struct err *e)
{
	_cleanup_free_ struct store *s = calloc(1, sizeof *s);
	if (!s)
		return err_sys(e, "database", ENOMEM, "store");
	STAILQ_INIT(&s->queue);
	STAILQ_INIT(&s->done);
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->submitted, NULL);
	pthread_cond_init(&s->finished, NULL);

	int r = open_database(&s->db, path, e);
	if (r < 0)
		return r;
	r = uv_async_init(loop, &s->async, on_async);
	if (r < 0) {
		sql_close(s->db);
		return err_sys(e, "database", -r, "uv_async_init");
	}
	/* The store alone is no reason to keep the loop running. */
	uv_unref((uv_handle_t *)&s->async);
	uv_timer_init(loop, &s->later);
	uv_unref((uv_handle_t *)&s->later);
	s->async.data = s->later.data = s;
	s->handles = 2;
	r = pthread_create(&s->thread, NULL, worker, s);
	if (r != 0) {
		sql_close(s->db);
		close_handles(s);
		s = NULL;
		return err_sys(e, "database", r, "starting the store's thread");
	}
	*out = steal_ptr(&s);
	return 0;
}

/* Done functions may submit more: until neither side has anything left. */
static void drain(struct store *s)
{
	bool idle;
	do {
		wake_worker(s);
		pthread_mutex_lock(&s->mutex);
		while (s->busy || !STAILQ_EMPTY(&s->queue))
			pthread_cond_wait(&s->finished, &s->mutex);
		idle = STAILQ_EMPTY(&s->done);
		pthread_mutex_unlock(&s->mutex);
		deliver(s);
	} while (!idle);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	drain(s);
	pthread_mutex_lock(&s->mutex);
	s->stopping = true;
	pthread_cond_signal(&s->submitted);
	pthread_mutex_unlock(&s->mutex);
	pthread_join(s->thread, NULL);

	sql_close(s->db);
	pthread_cond_destroy(&s->finished);
	pthread_cond_destroy(&s->submitted);
	pthread_mutex_destroy(&s->mutex);
	close_handles(s);
}
