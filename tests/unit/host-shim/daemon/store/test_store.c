/* store: order, savepoints, shared commits, what close promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-shim/daemon/store/sql.h"
#include "host-shim/daemon/store/store.h"

struct fixture {
	char dir[64], path[80];
	uv_loop_t loop;
	struct store *store;
	int seen[1024]; /* what done reported, in order */
	int n;
};

struct job {
	struct fixture *f;
	int number;
	int result; /* what the work returns */
	int again;  /* submit so many more from done */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	strcpy(f->dir, "/tmp/tenon-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/tenon.db", f->dir);
	assert_int_equal(uv_loop_init(&f->loop), 0);
	struct err e = {0};
	assert_int_equal(store_open(&f->store, &f->loop, f->path, &e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	store_close(f->store);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -rf %s", f->dir);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static int insert(sqlite3 *db, void *arg, struct err *e)
{
	struct job *j = arg;
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "INSERT INTO meta VALUES (?, ?)", &s, e);
	if (r < 0)
		return r;
	char key[16];
	snprintf(key, sizeof key, "k%d", j->number);
	sql_bind_text(s, 1, key);
	sqlite3_bind_int(s, 2, j->number);
	r = sql_step(db, s, e);
	return r < 0 ? r : j->result;
}

static void note(void *arg, int status, const struct err *e)
{
	struct job *j = arg;
	assert_int_equal(status < 0, e != NULL);
	j->f->seen[j->f->n++] = status < 0 ? status : j->number;
	if (j->again) {
		j->number++;
		j->again--;
		store_submit(j->f->store, insert, note, j);
	}
}

static int count(sqlite3 *db, void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db, "SELECT count(*) FROM meta", &s, e);
	if (r == 0)
		r = sql_step(db, s, e);
	if (r > 0)
		*(int *)arg = sqlite3_column_int(s, 0);
	return r < 0 ? r : 0;
}

static int rows(struct fixture *f)
{
	int n = -1;
	assert_int_equal(store_run(f->store, count, &n, NULL), 0);
	return n;
}

static void run_until(struct fixture *f, int n)
{
	while (f->n < n) {
		/* The store's handle is unreferenced: something else must keep the loop waiting for it. */
		uv_timer_t t;
		uv_timer_init(&f->loop, &t);
		uv_timer_start(&t, (uv_timer_cb)uv_stop, 5000, 0);
		uv_run(&f->loop, UV_RUN_ONCE);
		uv_close((uv_handle_t *)&t, NULL);
		uv_run(&f->loop, UV_RUN_NOWAIT);
	}
}

static void order(void **state)
{
	struct fixture *f = *state;
	struct job jobs[1000];
	for (int i = 0; i < 1000; i++) {
		jobs[i] = (struct job){.f = f, .number = i};
		store_submit(f->store, insert, note, &jobs[i]);
	}
	run_until(f, 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(f->seen[i], i);
	assert_int_equal(rows(f), 1000);
}

static void failure_rolls_back_alone(void **state)
{
	struct fixture *f = *state;
	struct job jobs[] = {
		{.f = f, .number = 1},
		{.f = f, .number = 2, .result = -ECANCELED},
		{.f = f, .number = 1}, /* the key is taken */
		{.f = f, .number = 4},
	};
	for (int i = 0; i < 4; i++)
		store_submit(f->store, insert, note, &jobs[i]);
	run_until(f, 4);
	assert_int_equal(f->seen[0], 1);
	assert_int_equal(f->seen[1], -ECANCELED);
	assert_int_equal(f->seen[2], -EEXIST);
	assert_int_equal(f->seen[3], 4);
	assert_int_equal(rows(f), 2);
}

/* Ends the transaction as SQLite does when the disk is full. */
static int lose_transaction(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return err_set(e, "database", ENOSPC, "disk full");
}

static int block(sqlite3 *db, void *arg, struct err *e)
{
	(void)db;
	(void)e;
	uv_sem_wait(arg);
	return 0;
}

static void lost_transaction_spares_the_others(void **state)
{
	struct fixture *f = *state;
	uv_sem_t gate;
	uv_sem_init(&gate, 0);
	struct job a = {.f = f, .number = 1}, b = {.f = f, .number = 2}, c = {.f = f, .number = 3};
	store_submit(f->store, block, NULL, &gate);
	store_submit(f->store, insert, note, &a);
	store_submit(f->store, lose_transaction, note, &b);
	store_submit(f->store, insert, note, &c);
	/* Twice: the batch may hold `block` too, and it runs again when the transaction falls. */
	uv_sem_post(&gate);
	uv_sem_post(&gate);
	run_until(f, 3);
	assert_int_equal(f->seen[0], 1);
	assert_int_equal(f->seen[1], -ENOSPC);
	assert_int_equal(f->seen[2], 3);
	assert_int_equal(rows(f), 2);
	uv_sem_destroy(&gate);
}

static int on_commit(void *arg)
{
	++*(int *)arg;
	return 0;
}

static int watch_commits(sqlite3 *db, void *arg, struct err *e)
{
	(void)e;
	sqlite3_commit_hook(db, arg ? on_commit : NULL, arg);
	return 0;
}

static void neighbours_share_a_commit(void **state)
{
	struct fixture *f = *state;
	int commits = 0;
	uv_sem_t gate;
	uv_sem_init(&gate, 0);
	assert_int_equal(store_run(f->store, watch_commits, &commits, NULL), 0);
	struct job jobs[100];
	store_submit(f->store, block, NULL, &gate);
	for (int i = 0; i < 100; i++) {
		jobs[i] = (struct job){.f = f, .number = i};
		store_submit(f->store, insert, note, &jobs[i]);
	}
	uv_sem_post(&gate);
	run_until(f, 100);
	/* The watcher's own, the gate's with those that came before it was taken, the others'. */
	assert_in_range(commits, 1, 3);
	assert_int_equal(store_run(f->store, watch_commits, NULL, NULL), 0);
	assert_int_equal(rows(f), 100);
	uv_sem_destroy(&gate);
}

static void close_flushes(void **state)
{
	struct fixture *f = *state;
	struct job j = {.f = f, .number = 0, .again = 9};
	store_submit(f->store, insert, note, &j);
	store_close(f->store);
	assert_int_equal(f->n, 10);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(store_open(&f->store, &f->loop, f->path, NULL), 0);
	assert_int_equal(rows(f), 10);
}

static int make_newer(sqlite3 *db, void *arg, struct err *e)
{
	return sql_exec(db, arg, e);
}

static void refuses_a_newer_state(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(store_run(f->store, make_newer, "PRAGMA user_version = 999", NULL), 0);
	struct store *second = NULL;
	struct err e = {0};
	assert_int_equal(store_open(&second, &f->loop, f->path, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "newer tenond"));
}

static void refuses_what_is_no_database(void **state)
{
	struct fixture *f = *state;
	char path[96];
	snprintf(path, sizeof path, "%s/not.db", f->dir);
	FILE *out = fopen(path, "w");
	for (int i = 0; i < 5000; i++)
		fputs("this is no database\n", out);
	fclose(out);
	struct store *second = NULL;
	struct err e = {0};
	assert_true(store_open(&second, &f->loop, path, &e) < 0);
	assert_true(e.errnum > 0);
	snprintf(path, sizeof path, "%s/no/such/dir.db", f->dir);
	assert_true(store_open(&second, &f->loop, path, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(order, setup, teardown),
		cmocka_unit_test_setup_teardown(failure_rolls_back_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_transaction_spares_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(neighbours_share_a_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(close_flushes, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_a_newer_state, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_no_database, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
