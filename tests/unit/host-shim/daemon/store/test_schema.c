/* What an older tenond has left is still there after each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host-shim/daemon/store/schema.c"

static sqlite3 *db;

static void run(const char *sql)
{
	struct err e = {0};
	if (sql_exec(db, sql, &e) < 0)
		fail_msg("%s", e.msg);
}

static int number(const char *sql)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	assert_int_equal(sql_prepare(db, sql, &s, NULL), 0);
	assert_int_equal(sql_step(db, s, NULL), 1);
	return sqlite3_column_int(s, 0);
}

static void boxes_of_the_first_version_get_the_default_prefix(void **state)
{
	(void)state;
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(take_step(db, 0, NULL), 0);
	run("INSERT INTO boxes VALUES ('B', 'n', 'i', 1, 2, 3, '[]', '{}', '/w', 0, 4, 5, 1, 6, 7, "
	    "'stopped', 'e',"
	    " 8, 9, 10, 'boot')");
	run("INSERT INTO boxes VALUES ('A', NULL, 'i', 1, 2, 3, '[]', '{}', NULL, 0, 4, 5, 1, 6, 7, "
	    "'running', '',"
	    " 8, 9, 10, 'boot')");
	assert_int_equal(schema_migrate(db, NULL), 0);
	assert_int_equal(number("PRAGMA user_version"), NEWEST);
	assert_int_equal(number("SELECT count(*) FROM boxes WHERE prefix = 'default'"), 2);
	assert_int_equal(
		number("SELECT count(*) FROM boxes WHERE id = 'B' AND name = 'n' AND working_dir = '/w'"
		       " AND status = 'stopped' AND error = 'e' AND vmm_ticks = 10 AND updated_ms = 7"),
		1);
	/* Boxes of one millisecond stay in the order in which they were made. */
	assert_int_equal(number("SELECT id = 'B' FROM boxes ORDER BY created_ms, rowid LIMIT 1"), 1);
	assert_int_equal(schema_migrate(db, NULL), 0);
	sqlite3_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boxes_of_the_first_version_get_the_default_prefix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
