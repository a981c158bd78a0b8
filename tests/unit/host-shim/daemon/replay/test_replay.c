#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "host-shim/daemon/replay/replay.h"
#include "host-shim/daemon/store/sql.h"

static struct {
	uv_loop_t loop;
	struct store *store;
	struct replay *replay;
	char folder[32], db[48];
	int calls;
	enum replay_outcome outcomes[8]; /* in the order in which they came */
	unsigned status;
	char body[64], location[64];
	int ends;
} t;

static void open_all(void)
{
	struct err e = {0};
	uv_loop_init(&t.loop);
	assert_int_equal(store_open(&t.store, &t.loop, t.db, &e), 0);
	assert_int_equal(replay_create(&t.replay, t.store, &e), 0);
	t.calls = t.ends = 0;
}

static void close_all(void)
{
	replay_freeze(t.replay);
	store_close(t.store);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	replay_destroy(t.replay);
	assert_int_equal(uv_loop_close(&t.loop), 0);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(t.folder, "/tmp/tn-replay-XXXXXX");
	assert_non_null(mkdtemp(t.folder));
	snprintf(t.db, sizeof t.db, "%s/db", t.folder);
	open_all();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	static const char *const ends[] = {"", "-wal", "-shm"};
	close_all();
	for (size_t i = 0; i < 3; i++) {
		char path[64];
		snprintf(path, sizeof path, "%s%s", t.db, ends[i]);
		unlink(path);
	}
	return rmdir(t.folder);
}

static void again(void)
{
	close_all();
	open_all();
}

static void on_known(void *arg, enum replay_outcome outcome, const struct replay_answer *answer)
{
	(void)arg;
	t.outcomes[t.calls++] = outcome;
	if (!answer)
		return;
	t.status = answer->status;
	snprintf(t.body, sizeof t.body, "%.*s", (int)answer->len, answer->body);
	snprintf(t.location, sizeof t.location, "%s", answer->location);
}

static void on_end(void *arg)
{
	(void)arg;
	t.ends++;
}

static void wait_for(const int *counter, int n)
{
	uv_timer_t limit;
	uv_timer_init(&t.loop, &limit);
	uv_timer_start(&limit, (uv_timer_cb)uv_stop, 5000, 0);
	while (*counter < n && uv_is_active((uv_handle_t *)&limit))
		uv_run(&t.loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&limit, NULL);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	assert_int_equal(*counter, n);
}

static void begin(const char *key, char what, bool repeatable)
{
	uint8_t fingerprint[32] = {(uint8_t)what};
	replay_begin(t.replay,
		     &(struct replay_request){
			     .prefix = "p", .key = key, .fingerprint = fingerprint, .repeatable = repeatable},
		     on_known, NULL);
}

static enum replay_outcome ask(const char *key, char what)
{
	t.calls = 0;
	begin(key, what, false);
	wait_for(&t.calls, 1);
	return t.outcomes[0];
}

static void end(const char *key, unsigned status)
{
	struct replay_answer a = {.status = status, .location = "/l", .body = "{}", .len = 2};
	t.ends = 0;
	replay_end(t.replay, "p", key, status ? &a : NULL, on_end, NULL);
	wait_for(&t.ends, 1);
}

static void the_first_answer_again(void **state)
{
	(void)state;
	assert_int_equal(ask("a", 1), REPLAY_RUN);
	end("a", 201);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(ask("a", 1), REPLAY_ANSWER);
		assert_int_equal(t.status, 201);
		assert_string_equal(t.body, "{}");
		assert_string_equal(t.location, "/l");
		assert_int_equal(ask("a", 2), REPLAY_MISMATCH);
		again();
	}
}

static void twins_run_once(void **state)
{
	(void)state;
	t.calls = 0;
	begin("b", 1, false);
	begin("b", 1, false);
	begin("b", 2, false); /* no twin */
	begin("b", 1, false);
	wait_for(&t.calls, 2);
	assert_int_equal(t.outcomes[0], REPLAY_MISMATCH);
	assert_int_equal(t.outcomes[1], REPLAY_RUN);
	end("b", 200);
	assert_int_equal(t.calls, 4);
	assert_int_equal(t.outcomes[2], REPLAY_ANSWER);
	assert_int_equal(t.outcomes[3], REPLAY_ANSWER);
}

static void a_released_key_is_the_next_ones(void **state)
{
	(void)state;
	t.calls = 0;
	begin("c", 1, false);
	begin("c", 1, false);
	wait_for(&t.calls, 1);
	end("c", 0);
	wait_for(&t.calls, 2);
	assert_int_equal(t.outcomes[1], REPLAY_RUN);
	end("c", 0);
	assert_int_equal(ask("c", 2), REPLAY_RUN);
	end("c", 200);
}

static void what_was_cut_off_is_told(void **state)
{
	(void)state;
	assert_int_equal(ask("d", 1), REPLAY_RUN);
	again();
	assert_int_equal(ask("d", 1), REPLAY_CUT_OFF);
	assert_int_equal(ask("d", 2), REPLAY_MISMATCH);
	t.calls = 0;
	begin("d", 1, true);
	wait_for(&t.calls, 1);
	assert_int_equal(t.outcomes[0], REPLAY_RUN);
	/* Fails while tenond ends: it may have been done. */
	replay_freeze(t.replay);
	end("d", 0);
	again();
	assert_int_equal(ask("d", 1), REPLAY_CUT_OFF);
}

static int age_all(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	return sql_exec(db, "UPDATE replies SET created_ms = created_ms - 24 * 3600 * 1000", e);
}

static void a_day_later_it_is_forgotten(void **state)
{
	(void)state;
	assert_int_equal(ask("e", 1), REPLAY_RUN);
	end("e", 200);
	assert_int_equal(store_run(t.store, age_all, NULL, NULL), 0);
	assert_int_equal(ask("e", 2), REPLAY_RUN);
	end("e", 200);
}

static int fill(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	return sql_exec(db,
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)"
			" INSERT INTO replies SELECT 'p', 'full' || i, x'', 1e15, 200, '', x'' FROM n",
			e);
}

static void there_is_an_end_to_keys(void **state)
{
	(void)state;
	assert_int_equal(store_run(t.store, fill, NULL, NULL), 0);
	assert_int_equal(ask("one more", 1), REPLAY_FULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_answer_again),          cmocka_unit_test(twins_run_once),
		cmocka_unit_test(a_released_key_is_the_next_ones), cmocka_unit_test(what_was_cut_off_is_told),
		cmocka_unit_test(a_day_later_it_is_forgotten),     cmocka_unit_test(there_is_an_end_to_keys),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
