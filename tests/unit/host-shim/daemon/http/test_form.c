#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/http/http.h"

static char out[16];

static int get(const char *body, const char *name)
{
	return http_form_value((const uint8_t *)body, strlen(body), name, out, sizeof out);
}

static void finds_and_decodes(void **state)
{
	(void)state;
	assert_int_equal(get("a=1&b=x+y%21&c", "b"), 0);
	assert_string_equal(out, "x y!");
	assert_int_equal(get("a=1&b=x+y%21&c", "c"), 0);
	assert_string_equal(out, "");
	assert_int_equal(get("%61=k", "a"), 0);
	assert_string_equal(out, "k");
	assert_int_equal(get("a=b=c", "a"), 0);
	assert_string_equal(out, "b=c");
}

static void refuses_what_is_not_clear(void **state)
{
	(void)state;
	assert_int_equal(get("", "a"), -ENOENT);
	assert_int_equal(get("aa=1&b", "a"), -ENOENT);
	assert_int_equal(get("a=1&a=2", "a"), -ENOENT);
	assert_int_equal(get("a=%", "a"), -EINVAL);
	assert_int_equal(get("a=%00", "a"), -EINVAL);
	assert_int_equal(http_form_value((const uint8_t *)"a=\0b", 4, "a", out, sizeof out), -EINVAL);
	assert_int_equal(get("a=123456789012345", "a"), 0);
	assert_int_equal(get("a=1234567890123456", "a"), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_and_decodes),
		cmocka_unit_test(refuses_what_is_not_clear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
