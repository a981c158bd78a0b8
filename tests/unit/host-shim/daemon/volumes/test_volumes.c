/* Volumes: their names and ids, their disks, and what a crash between any two steps leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/store/sql.h"
#include "host-shim/daemon/volumes/volumes.h"

struct bench {
	char dir[64], template[80], path[256];
	uv_loop_t loop;
	struct store *store;
	struct volumes *volumes;
	int done, status;
	char id[VOLUME_ID_SIZE];
	char list[512];
};

static void open_all(struct bench *x)
{
	struct err e = {0};
	assert_int_equal(uv_loop_init(&x->loop), 0);
	snprintf(x->path, sizeof x->path, "%s/db", x->dir);
	assert_int_equal(store_open(&x->store, &x->loop, x->path, &e), 0);
	struct volumes_config c = {
		.loop = &x->loop, .store = x->store, .state_dir = x->dir, .template = x->template};
	if (volumes_create(&x->volumes, &c, &e) < 0)
		fail_msg("%s", e.msg);
}

static void close_all(struct bench *x)
{
	volumes_destroy(x->volumes);
	/* What the threads have in their hands ends; no step follows. */
	uv_run(&x->loop, UV_RUN_DEFAULT);
	store_close(x->store);
	uv_run(&x->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&x->loop), 0);
}

static int setup(void **state)
{
	struct bench *x = calloc(1, sizeof *x);
	strcpy(x->dir, "/tmp/tenon-volumes-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->template, sizeof x->template, "%s/template", x->dir);
	/* Data, a hole, data, a hole. */
	int fd = open(x->template, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(pwrite(fd, "first", 5, 0), 5);
	assert_int_equal(pwrite(fd, "second", 6, 3 << 20), 6);
	assert_int_equal(ftruncate(fd, 8 << 20), 0);
	close(fd);
	open_all(x);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct bench *x = *state;
	close_all(x);
	snprintf(x->path, sizeof x->path, "rm -rf %s", x->dir);
	assert_int_equal(system(x->path), 0);
	free(x);
	return 0;
}

static void on_added(void *arg, const struct volume_info *v, int status, const struct err *e)
{
	struct bench *x = arg;
	assert_true(!v == (status < 0) && !e == !!v);
	x->status = status;
	x->done++;
	if (v)
		strcpy(x->id, v->id);
}

static void on_removed(void *arg, int status, const struct err *e)
{
	struct bench *x = arg;
	assert_true(!e == !status);
	x->status = status;
	x->done++;
}

static void too_late(uv_timer_t *t)
{
	(void)t;
	fail_msg("nothing happened for %d s", 20);
}

/* At most so many turns, until done has been called so often. The store does not keep a loop alive: the guard
 * does. */
static void turn(struct bench *x, int turns, int n)
{
	uv_timer_t guard;
	uv_timer_init(&x->loop, &guard);
	uv_timer_start(&guard, too_late, 20000, 0);
	for (int i = 0; i < turns && x->done < n; i++)
		uv_run(&x->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&x->loop, UV_RUN_NOWAIT);
}

static void wait_done(struct bench *x, int n)
{
	turn(x, INT_MAX, n);
	assert_int_equal(x->done, n);
	x->done = 0;
}

static int add(struct bench *x, const char *prefix, const char *name)
{
	volumes_add(x->volumes, prefix, name, on_added, x);
	wait_done(x, 1);
	return x->status;
}

static int take(struct bench *x, const char *prefix, const char *name)
{
	volumes_remove(x->volumes, prefix, name, on_removed, x);
	wait_done(x, 1);
	return x->status;
}

static void note(void *arg, const struct volume_info *v)
{
	struct bench *x = arg;
	strcat(strcat(x->list, v->name), " ");
}

static const char *list(struct bench *x, const char *prefix)
{
	x->list[0] = '\0';
	volumes_each(x->volumes, prefix, note, x);
	return x->list;
}

static bool find(struct bench *x, const char *prefix, const char *name)
{
	struct volume_info v;
	return volumes_find(x->volumes, prefix, name, &v);
}

/* How many files there are, of which *parts are not in use. */
static int files(struct bench *x, int *parts)
{
	snprintf(x->path, sizeof x->path, "%s/volumes", x->dir);
	DIR *d = opendir(x->path);
	assert_non_null(d);
	int n = 0;
	*parts = 0;
	for (const struct dirent *e; (e = readdir(d));) {
		n += e->d_name[0] != '.';
		*parts += strstr(e->d_name, ".part") != NULL;
	}
	closedir(d);
	return n;
}

/* ---- tests ------------------------------------------------------------------------------------------- */

static void names_and_ids(void **state)
{
	struct bench *x = *state;
	assert_int_equal(add(x, "p", "data"), 0);
	assert_int_equal(strncmp(x->id, "vol_", 4), 0);
	char first[VOLUME_ID_SIZE];
	strcpy(first, x->id);
	assert_int_equal(add(x, "p", "data"), -EEXIST);
	assert_int_equal(add(x, "p", first), -EEXIST); /* a name that is another's id */
	assert_int_equal(add(x, "q", "data"), 0);
	assert_int_equal(add(x, "p", NULL), 0);
	assert_true(find(x, "p", x->id) && find(x, "p", first) && find(x, "p", "data"));
	assert_false(find(x, "q", first) || find(x, "r", "data"));
	struct volume_info v;
	assert_true(volumes_find(x->volumes, "p", x->id, &v));
	assert_string_equal(v.name, v.id);
	assert_true(v.created_ms > 1600000000000 && v.used_ms == 0);
	assert_int_equal(volumes_count(x->volumes, "p"), 2);
	char both[128];
	snprintf(both, sizeof both, "data %s ", x->id);
	assert_string_equal(list(x, "p"), both);

	close_all(x);
	open_all(x);
	assert_string_equal(list(x, "p"), both);
	assert_int_equal(take(x, "q", first), -ENOENT);
	assert_int_equal(take(x, "p", "data"), 0);
	assert_int_equal(take(x, "p", "data"), -ENOENT);
	assert_int_equal(volumes_count(x->volumes, "p"), 1);
	assert_int_equal(add(x, "p", "data"), 0);
}

static void twins_become_one(void **state)
{
	struct bench *x = *state;
	int parts;
	for (int i = 0; i < 4; i++)
		volumes_add(x->volumes, "p", "twin", on_added, x);
	assert_false(find(x, "p", "twin")); /* not yet */
	wait_done(x, 4);
	assert_int_equal(volumes_count(x->volumes, "p"), 1);
	assert_int_equal(files(x, &parts), 1);
	volumes_remove(x->volumes, "p", "twin", on_removed, x);
	assert_false(find(x, "p", "twin")); /* not any more */
	volumes_remove(x->volumes, "p", "twin", on_removed, x);
	volumes_add(x->volumes, "p", "twin", on_added, x); /* the name is free when it is gone */
	assert_int_equal(x->status, -EEXIST);
	wait_done(x, 3);
	assert_int_equal(files(x, &parts), 0);
}

static void a_disk_is_the_template_with_its_holes(void **state)
{
	struct bench *x = *state;
	char path[256], buf[8] = "";
	struct stat st;
	assert_int_equal(add(x, "p", "disk"), 0);
	assert_int_equal(volumes_use(x->volumes, "q", x->id, path, sizeof path), -ENOENT);
	assert_int_equal(volumes_use(x->volumes, "p", x->id, path, sizeof path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, (off_t)VOLUME_SIZE_GB << 30);
	assert_true(st.st_blocks < 4096); /* of 512 bytes */
	assert_int_equal(st.st_mode & 0777, 0600);
	int fd = open(path, O_RDONLY);
	assert_int_equal(pread(fd, buf, 5, 0), 5);
	assert_string_equal(buf, "first");
	assert_int_equal(pread(fd, buf, 6, 3 << 20), 6);
	assert_string_equal(buf, "second");
	close(fd);

	struct volume_info v;
	assert_true(volumes_find(x->volumes, "p", "disk", &v) && v.used_ms >= v.created_ms);
	int64_t used = v.used_ms;
	close_all(x);
	open_all(x);
	assert_true(volumes_find(x->volumes, "p", "disk", &v));
	assert_int_equal(v.used_ms, used);
}

static void a_prefix_has_its_limit(void **state)
{
	struct bench *x = *state;
	int parts;
	for (int i = 0; i < VOLUMES_MAX; i++)
		volumes_add(x->volumes, "p", NULL, on_added, x);
	assert_int_equal(x->done, 0);
	volumes_add(x->volumes, "p", NULL, on_added, x); /* those under way count */
	assert_int_equal(x->status, -EMFILE);
	wait_done(x, VOLUMES_MAX + 1);
	assert_int_equal(files(x, &parts), VOLUMES_MAX);
	assert_int_equal(add(x, "q", NULL), 0);
}

static void what_fails_leaves_nothing(void **state)
{
	struct bench *x = *state;
	int parts;
	assert_int_equal(rename(x->template, x->path), 0);
	assert_int_equal(add(x, "p", "none"), -ENOENT);
	assert_int_equal(rename(x->path, x->template), 0);
	assert_int_equal(files(x, &parts), 0);
	assert_int_equal(volumes_count(x->volumes, "p"), 0);
	assert_int_equal(add(x, "p", "none"), 0);
}

static int hide_table(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	return sql_exec(db, "ALTER TABLE volumes RENAME TO hidden", e);
}

static int show_table(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	return sql_exec(db, "ALTER TABLE hidden RENAME TO volumes", e);
}

static void a_database_that_fails_changes_nothing(void **state)
{
	struct bench *x = *state;
	int parts;
	assert_int_equal(add(x, "p", "old"), 0);
	assert_int_equal(store_run(x->store, hide_table, NULL, NULL), 0);
	assert_true(add(x, "p", "new") < 0);
	assert_true(take(x, "p", "old") < 0);
	assert_int_equal(store_run(x->store, show_table, NULL, NULL), 0);
	assert_string_equal(list(x, "p"), "old ");
	assert_int_equal(files(x, &parts), 1);
	assert_int_equal(parts, 0);
	assert_int_equal(take(x, "p", "old"), 0);
}

/* tenond is let go at every turn of both ways: a volume is whole or it is not there, and so is its disk. */
static void any_crash_is_repaired(void **state)
{
	struct bench *x = *state;
	int parts;
	for (int turns = 0; turns < 12; turns++)
		for (int way = 0; way < 2; way++) {
			if (way == 1 && !find(x, "p", "crash"))
				assert_int_equal(add(x, "p", "crash"), 0);
			if (way == 0)
				volumes_add(x->volumes, "p", "crash", on_added, x);
			else
				volumes_remove(x->volumes, "p", "crash", on_removed, x);
			turn(x, turns, 1);
			close_all(x);
			assert_int_equal(x->done, 1); /* it was told, one way or the other */
			x->done = 0;
			open_all(x);
			bool there = find(x, "p", "crash");
			assert_int_equal(files(x, &parts), there);
			assert_int_equal(parts, 0);
			if (way == 0 && there)
				assert_int_equal(take(x, "p", "crash"), 0);
		}
}

static void rename_file(struct bench *x, const char *from, const char *to)
{
	char a[256], b[256];
	snprintf(a, sizeof a, "%s/volumes/%s%s", x->dir, x->id, from);
	snprintf(b, sizeof b, "%s/volumes/%s%s", x->dir, x->id, to);
	assert_int_equal(rename(a, b), 0);
}

static void a_row_decides_about_a_part(void **state)
{
	struct bench *x = *state;
	int parts;
	assert_int_equal(add(x, "p", "one"), 0);
	close_all(x);
	rename_file(x, ".img", ".part");
	open_all(x);
	assert_true(find(x, "p", "one"));
	assert_int_equal(files(x, &parts), 1);
	assert_int_equal(parts, 0);

	/* Data without a row is nobody's to remove; what is not of our form neither. */
	snprintf(x->path, sizeof x->path,
		 "cd %s/volumes && touch vol_01ARYZ6S41000G40R40M30E209.img mine.part vol_mine.part "
		 "vol_01ARYZ6S41000G40R40M30E208.part",
		 x->dir);
	assert_int_equal(system(x->path), 0);
	close_all(x);
	open_all(x);
	assert_int_equal(files(x, &parts), 4);
	assert_int_equal(parts, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_and_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(twins_become_one, setup, teardown),
		cmocka_unit_test_setup_teardown(a_disk_is_the_template_with_its_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_prefix_has_its_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(what_fails_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_database_that_fails_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(any_crash_is_repaired, setup, teardown),
		cmocka_unit_test_setup_teardown(a_row_decides_about_a_part, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
