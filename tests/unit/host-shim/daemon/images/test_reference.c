/* What people call images, by docker's rules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/images/reference.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX

static void test_whole_names(void **state)
{
	static const char *const cases[][2] = {
		{"alpine", "docker.io/library/alpine:latest"},
		{"alpine:3.20", "docker.io/library/alpine:3.20"},
		{"docker.io/alpine", "docker.io/library/alpine:latest"},
		{"user/app", "docker.io/user/app:latest"},
		{"a/b/c:T_a.g-1", "docker.io/a/b/c:T_a.g-1"},
		{"localhost/app", "localhost/app:latest"},
		{"localhost:5000/app", "localhost:5000/app:latest"},
		{"quay.io/app", "quay.io/app:latest"},
		{"Upper/app", "Upper/app:latest"}, /* upper case can only be a host */
		{"127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"},
		{"[::1]:5000/a", "[::1]:5000/a:latest"},
		{"x/b__c-d---e/f_g", "docker.io/x/b__c-d---e/f_g:latest"},
		{"alpine@" DIGEST, "docker.io/library/alpine@" DIGEST},
		{"alpine:3@" DIGEST, "docker.io/library/alpine@" DIGEST},
		{"r.example:1/a@" DIGEST, "r.example:1/a@" DIGEST},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct reference r;
		struct err e = {0};
		char text[REFERENCE_TEXT_SIZE];
		if (reference_parse(&r, cases[i][0], &e) != 0)
			fail_msg("%s: %s", cases[i][0], e.msg);
		reference_print(&r, text);
		assert_string_equal(text, cases[i][1]);
		/* What is printed means the same. */
		assert_int_equal(reference_parse(&r, text, &e), 0);
		reference_print(&r, text);
		assert_string_equal(text, cases[i][1]);
	}
}

static void test_what_is_none(void **state)
{
	static const char *const cases[] = {
		"",
		"A",
		"a b",
		"a/",
		"/a",
		"a//b",
		"a:",
		":a",
		"a:b:c",
		"a@",
		"a@sha256:1",
		"a@md5:" HEX,
		"-a",
		"a-",
		"a..b",
		"a___b",
		".a",
		"a.",
		"a:-b",
		"a:.b",
		HEX,
		DIGEST,
		"h:x/a",
		"h:/a",
		"h:123456/a",
		"[::1/a",
		"[x]/a",
		"-h.x/a",
		"h..x/a",
		"../a",
		"a/../b",
		"a\nb",
		"docker://a",
		"a@" DIGEST "0",
		"\xc3\xa9",
		"oci:/etc",
		"--all",
		"h.x/A",
		"h.x/a@" DIGEST "@" DIGEST,
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct reference r;
		struct err e = {0};
		if (reference_parse(&r, cases[i], &e) != -EINVAL || !e.msg[0])
			fail_msg("\"%s\" was taken as %s:%s", cases[i], r.repository, r.tag);
	}
}

static void test_lengths(void **state)
{
	struct reference r;
	struct err e;
	char text[2048] = "h.x/";
	(void)state;
	memset(text + 4, 'a', 251);
	assert_int_equal(reference_parse(&r, text, &e), 0);
	text[255] = 'a';
	assert_int_equal(reference_parse(&r, text, &e), -EINVAL);
	memset(text, 'a', sizeof text - 1);
	assert_int_equal(reference_parse(&r, text, &e), -EINVAL);
	strcpy(text, "a:");
	memset(text + 2, 't', 128);
	text[130] = '\0';
	assert_int_equal(reference_parse(&r, text, &e), 0);
	text[130] = 't';
	text[131] = '\0';
	assert_int_equal(reference_parse(&r, text, &e), -EINVAL);
}

static void test_loopback(void **state)
{
	static const struct {
		const char *text;
		bool loopback;
	} cases[] = {
		{"localhost/a", true},          {"localhost:5000/a", true}, {"127.0.0.1:5000/a", true},
		{"127.9.9.9/a", true},          {"[::1]:5000/a", true},     {"alpine", false},
		{"localhost.example/a", false}, {"128.0.0.1/a", false},     {"127.0.0.1.example/a", false}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct reference r;
		struct err e;
		assert_int_equal(reference_parse(&r, cases[i].text, &e), 0);
		assert_int_equal(reference_is_loopback(&r), cases[i].loopback);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_names),
		cmocka_unit_test(test_what_is_none),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_loopback),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
