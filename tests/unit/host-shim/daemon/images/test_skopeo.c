/* What is told of what skopeo and others say when they fail, and what they are called with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/images/skopeo.h"

static void test_last_words(void **state)
{
	static const char *const cases[][2] = {
		{"", ""},
		{"one line", "one line"},
		{"first\nlast\n\n", "last"},
		{"time=\"2026\" level=warning msg=\"no\"\ntime=\"2026\" level=fatal msg=\"yes\"\n", "yes"},
		{"time=\"2026\" level=fatal msg=\"it \\\"is\\\" so\"\n", "it \"is\" so"},
		{"time=\"2026\" level=fatal msg=\"Error parsing image name \\\"docker://h/a\\\": manifest "
		 "unknown\"",
		 "manifest unknown"},
		{"a \033[31mred\033[0m \xff word", "a red ? word"},
		{"msg=\"", ""},
		{"msg=\"\\", "\\"},
	};
	char out[64];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		skopeo_last_words(out, sizeof out, cases[i][0]);
		assert_string_equal(out, cases[i][1]);
	}
	char many[5000];
	memset(many, 'x', sizeof many - 1);
	many[sizeof many - 1] = '\0';
	skopeo_last_words(out, sizeof out, many);
	assert_int_equal(strlen(out), sizeof out - 1);
}

static bool has(const struct skopeo *s, const char *argument)
{
	for (unsigned i = 0; i < s->n_argv; i++)
		if (strcmp(s->argv[i], argument) == 0)
			return true;
	return false;
}

static void test_calls(void **state)
{
	struct reference far, near;
	struct err e;
	struct skopeo s;
	(void)state;
	assert_int_equal(reference_parse(&far, "quay.io/a:1", &e), 0);
	assert_int_equal(reference_parse(&near, "127.0.0.1:5000/a", &e), 0);
	assert_int_equal(skopeo_inspect(&s, "/w", &far, true), 0);
	assert_true(has(&s, "--config") && has(&s, "/w/auth.json") && has(&s, "docker://quay.io/a:1"));
	assert_false(has(&s, "--tls-verify=false"));
	skopeo_finish(&s);
	assert_int_equal(skopeo_inspect(&s, "/w", &near, false), 0);
	assert_true(has(&s, "--tls-verify=false") && !has(&s, "--config"));
	assert_null(s.argv[s.n_argv]);
	skopeo_finish(&s);
	assert_int_equal(skopeo_copy(&s, "/w", "/c", &near), 0);
	assert_true(has(&s, "--src-tls-verify=false") && has(&s, "/c") && has(&s, "oci:/w/oci:it"));
	skopeo_finish(&s);
	assert_int_equal(skopeo_import(&s, "/w", "oci:/x"), 0);
	assert_true(has(&s, "oci:/x") && has(&s, "dir:/w/dir"));
	skopeo_finish(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_last_words), cmocka_unit_test(test_calls)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
