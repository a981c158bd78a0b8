/* The command line finds the key of the tenond that the same user started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "host-shim/cli/api.h"

static void expect_path(const char *want, bool root, const char *xdg_state, const char *home)
{
	char *path = api_own_key_path(root, xdg_state, home);
	if (want)
		assert_string_equal(path, want);
	else
		assert_null(path);
	free(path);
}

/* Each row as tenond decides it: root before XDG_STATE_HOME, and relative paths count as unset. */
static void own_key_lies_where_tenond_puts_it(void **state)
{
	(void)state;
	expect_path("/var/lib/tenon/admin.key", true, NULL, "/root");
	expect_path("/var/lib/tenon/admin.key", true, "/home/x/.state", "/root");
	expect_path("/home/x/.state/tenon/admin.key", false, "/home/x/.state", "/home/x");
	expect_path("/home/x/.local/state/tenon/admin.key", false, NULL, "/home/x");
	expect_path("/home/x/.local/state/tenon/admin.key", false, "", "/home/x");
	expect_path("/home/x/.local/state/tenon/admin.key", false, "relative", "/home/x");
	expect_path(NULL, false, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_key_lies_where_tenond_puts_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
