/* The forest of layers: who holds what, what goes with the last that held it, what a crash left is mended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-shim/daemon/disks/layers.h"
#include "host-shim/daemon/store/sql.h"

struct bench {
	char dir[64];
	uv_loop_t loop;
	struct store *store;
	struct layers *layers;
};

static void open_all(struct bench *x)
{
	struct err e;
	char db[96];
	snprintf(db, sizeof db, "%s/tenon.db", x->dir);
	uv_loop_init(&x->loop);
	assert_int_equal(store_open(&x->store, &x->loop, db, &e), 0);
	assert_int_equal(layers_create(&x->layers, &x->loop, x->store, x->dir, &e), 0);
}

static void close_all(struct bench *x)
{
	layers_destroy(x->layers);
	store_close(x->store);
	uv_run(&x->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&x->loop), 0);
}

static int setup(void **state)
{
	struct bench *x = calloc(1, sizeof *x);
	strcpy(x->dir, "/tmp/tenon-layers-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	open_all(x);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct bench *x = *state;
	char command[96];
	close_all(x);
	snprintf(command, sizeof command, "rm -rf %s", x->dir);
	assert_int_equal(system(command), 0);
	free(x);
	return 0;
}

static int write_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct layer *l = arg;
	return layer_insert(db, l->id, l->below ? l->below->id : "", l->written, e);
}

static int count_rows(sqlite3 *db, void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	assert_int_equal(sql_prepare(db, "SELECT count(*) FROM layers", &s, e), 0);
	assert_int_equal(sql_step(db, s, e), 1);
	*(int *)arg = sqlite3_column_int(s, 0);
	return 0;
}

static void never(uv_timer_t *t)
{
	(void)t;
}

/* As far as the store and the loop are. */
static int rows(struct bench *x)
{
	struct err e;
	int n = -1;
	uv_timer_t alive; /* without a handle the loop would not even look */
	uv_timer_init(&x->loop, &alive);
	uv_timer_start(&alive, never, 60000, 0);
	for (int turn = 0; turn < 200; turn++) {
		uv_run(&x->loop, UV_RUN_NOWAIT);
		assert_int_equal(store_run(x->store, count_rows, &n, &e), 0);
	}
	uv_close((uv_handle_t *)&alive, NULL);
	uv_run(&x->loop, UV_RUN_DEFAULT); /* until no file is being removed any more */
	return n;
}

static bool file(const struct layer *l, bool make)
{
	char path[LAYERS_PATH_MAX];
	layer_path(l, path);
	if (make)
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	return access(path, F_OK) == 0;
}

static struct layer *add(struct bench *x, struct layer *below)
{
	struct err e;
	struct layer *l = layers_make(x->layers, below);
	file(l, true);
	assert_int_equal(store_run(x->store, write_row, l, &e), 0);
	return l;
}

static void the_last_one_takes_it_along(void **state)
{
	struct bench *x = *state;
	layers_settle(x->layers);
	struct layer *base = add(x, NULL), *middle = add(x, base), *left = add(x, middle),
		     *right = add(x, middle);
	assert_int_equal(layer_depth(left), 3);
	assert_true(layer_rests_on(left, base) && layer_rests_on(left, left) && !layer_rests_on(left, right));
	layer_unref(base);
	layer_unref(middle);
	assert_int_equal(rows(x), 4); /* both are lain upon */
	char path[LAYERS_PATH_MAX];
	layer_path(left, path);
	layer_unref(left);
	assert_int_equal(rows(x), 3);
	assert_int_not_equal(access(path, F_OK), 0);
	layer_unref(right);
	assert_int_equal(rows(x), 0);
	assert_null(layers_first(x->layers));
}

static void over_a_restart(void **state)
{
	struct bench *x = *state;
	layers_settle(x->layers);
	struct layer *base = add(x, NULL), *top = add(x, base), *alone = add(x, NULL);
	char id[ULID_LENGTH + 1], stray[LAYERS_PATH_MAX], part[LAYERS_PATH_MAX], foreign[96];
	strcpy(id, top->id);
	(void)alone;                                        /* nobody will hold it */
	struct layer *ghost = layers_make(x->layers, NULL); /* a file without a row */
	file(ghost, true);
	layer_path(ghost, stray);
	layer_part(base, part);
	snprintf(foreign, sizeof foreign, "%s/disks/notes.txt", x->dir);
	close(open(part, O_WRONLY | O_CREAT, 0600));
	close(open(foreign, O_WRONLY | O_CREAT, 0600));
	close_all(x);
	open_all(x);
	layer_ref(layers_find(x->layers, id));
	layers_settle(x->layers);
	assert_int_equal(rows(x), 2);
	assert_int_not_equal(access(stray, F_OK), 0);
	assert_int_not_equal(access(part, F_OK), 0);
	assert_int_equal(access(foreign, F_OK), 0);
	assert_true(file(layers_find(x->layers, id), false) &&
		    file(layers_find(x->layers, id)->below, false));
}

/* The lower's file had the upper's name already when tenond died. */
static void a_merge_that_was_cut_off(void **state)
{
	struct bench *x = *state;
	layers_settle(x->layers);
	struct layer *base = add(x, NULL), *lower = add(x, base), *upper = add(x, lower);
	char id[ULID_LENGTH + 1], from[LAYERS_PATH_MAX], to[LAYERS_PATH_MAX];
	strcpy(id, upper->id);
	layer_path(lower, from);
	layer_path(upper, to);
	assert_int_equal(rename(from, to), 0);
	for (int again = 0; again < 2; again++) {
		close_all(x);
		open_all(x);
		layer_ref(layers_find(x->layers, id));
		layers_settle(x->layers);
		assert_int_equal(rows(x), 2);
		assert_int_equal(layer_depth(layers_find(x->layers, id)), 2);
		assert_int_equal(layers_find(x->layers, id)->below->refs, 1);
	}
	/* One that was never started has no file, and is no such thing. */
	struct layer *unborn = layers_make(x->layers, NULL);
	struct err e;
	strcpy(id, unborn->id);
	assert_int_equal(store_run(x->store, write_row, unborn, &e), 0);
	close_all(x);
	open_all(x);
	layer_ref(layers_find(x->layers, id));
	layers_settle(x->layers);
	assert_non_null(layers_find(x->layers, id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_last_one_takes_it_along, setup, teardown),
		cmocka_unit_test_setup_teardown(over_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(a_merge_that_was_cut_off, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
