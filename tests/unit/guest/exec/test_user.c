/* Lines of passwd(5) and group(5), docker's form of a user. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/user.h"

static struct user_scan scan;

/* Feeds text in pieces of `step` bytes. Returns how many lines were wanted; the last one stays in `scan`. */
static int hits(bool groups, enum user_wanted wanted, const char *name, uint32_t id, const char *text,
		size_t len, size_t step)
{
	int n = 0;
	scan = (struct user_scan){.groups = groups,
				  .wanted = wanted,
				  .name = name,
				  .name_len = name ? strlen(name) : 0,
				  .id = id};
	struct user_scan last = scan;
	for (size_t at = 0; at < len;) {
		size_t size = len - at < step ? len - at : step;
		at += user_scan_feed(&scan, text + at, size);
		if (scan.hit) {
			n++;
			last = scan;
		}
	}
	user_scan_end(&scan);
	n += scan.hit;
	if (!scan.hit)
		scan = last;
	return n;
}

static int by_name(const char *name, const char *text)
{
	int n = hits(false, USER_BY_NAME, name, 0, text, strlen(text), 7);
	assert_int_equal(hits(false, USER_BY_NAME, name, 0, text, strlen(text), 1), n);
	assert_int_equal(hits(false, USER_BY_NAME, name, 0, text, strlen(text), SIZE_MAX), n);
	return n;
}

static void a_user_by_name_and_by_number(void **state)
{
	(void)state;
	static const char text[] = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/var/www:/bin/sh\n";
	assert_int_equal(by_name("web", text), 1);
	assert_int_equal(scan.uid, 33);
	assert_int_equal(scan.gid, 44);
	assert_string_equal(scan.home, "/var/www");
	assert_int_equal(by_name("we", text), 0);
	assert_int_equal(by_name("webx", text), 0);
	assert_int_equal(hits(false, USER_BY_ID, NULL, 33, text, strlen(text), 5), 1);
	assert_int_equal(scan.line_name_len, 3);
	assert_memory_equal(scan.line_name, "web", 3);
}

static void the_last_line_needs_no_newline(void **state)
{
	(void)state;
	assert_int_equal(by_name("a", "b:x:1:1::/b:/s\na:x:2:3::/a"), 1);
	assert_int_equal(scan.uid, 2);
	assert_string_equal(scan.home, "/a");
	assert_int_equal(by_name("a", "a:x:2:3"), 1);
	assert_string_equal(scan.home, "");
	assert_int_equal(by_name("a", ""), 0);
}

static void a_line_without_its_fields_counts_for_nothing(void **state)
{
	(void)state;
	static const char *const lines[] = {"a",
					    "a:x",
					    "a:x:5",
					    "a:x::5",
					    "a:x:5:",
					    "a:x:-1:5",
					    "a:x:5:-1",
					    "a:x:5x:5",
					    "a:x: 5:5",
					    "a:x:+5:5",
					    "a:x:4294967295:5",
					    "a:x:5:4294967295",
					    "a:x:99999999999999999999999:5",
					    ":x:5:5"};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		assert_int_equal(by_name("a", lines[i]), 0);
	assert_int_equal(by_name("", ":x:5:5:::"), 0);
	assert_int_equal(by_name("a", "a\na:x:0\na:x:7:8::/h:/s\n"), 1); /* "a" alone does not make it root */
	assert_int_equal(scan.uid, 7);
}

static void ids_up_to_the_kernels_last(void **state)
{
	(void)state;
	assert_int_equal(by_name("a", "a:x:2147483648:4294967294::/:"), 1);
	assert_int_equal(scan.uid, 2147483648u);
	assert_int_equal(scan.gid, USER_ID_MAX);
}

static void a_nul_byte_breaks_its_line_alone(void **state)
{
	(void)state;
	static const char text[] = "a:x:1:1::/x\0y:/s\na:x:2:2::/z:/s\n";
	assert_int_equal(hits(false, USER_BY_NAME, "a", 0, text, sizeof text - 1, 3), 1);
	assert_int_equal(scan.uid, 2);
}

static void overlong_fields(void **state)
{
	(void)state;
	static char text[3 * USER_HOME_MAX], name[USER_NAME_MAX + 2];
	char *at = text;
	at += sprintf(at, "a:x:1:2:");
	at = (char *)memset(at, 'g', USER_HOME_MAX + 9) + USER_HOME_MAX + 9;
	*at++ = ':';
	at = (char *)memset(at, 'h', USER_HOME_MAX - 1) + USER_HOME_MAX - 1;
	strcpy(at, ":/s\n");
	assert_int_equal(by_name("a", text), 1);
	assert_int_equal(scan.home_len, USER_HOME_MAX - 1);
	strcpy(at, "h:/s\n"); /* one more: counts as none, rather than as another directory */
	assert_int_equal(by_name("a", text), 1);
	assert_string_equal(scan.home, "");

	memset(name, 'n', USER_NAME_MAX + 1);
	sprintf(text, "%s:x:1:2::/:\n%.*s:x:3:4::/:\n", name, USER_NAME_MAX, name);
	name[USER_NAME_MAX] = '\0';
	assert_int_equal(by_name(name, text), 1);
	assert_int_equal(scan.uid, 3);
}

static int members(const char *name, const char *text)
{
	return hits(true, USER_BY_MEMBER, name, 0, text, strlen(text), 3);
}

static void groups_of_a_member(void **state)
{
	(void)state;
	static const char text[] = "root:x:0:\nadm:x:4:a,b\nb:x:5:ab,a b\nsudo:x:6:b,a\nlast:x:7:a";
	assert_int_equal(members("a", text), 3);
	assert_int_equal(scan.gid, 7);
	assert_int_equal(members("b", text), 2);
	assert_int_equal(members("ab", text), 1);
	assert_int_equal(members("", text), 0);
	assert_int_equal(members("a", "x:x:1:b:a\ny:x:2\nz:x:no:a\n"),
			 0); /* a fifth field; no list; no number */
	assert_int_equal(hits(true, USER_BY_NAME, "adm", 0, text, strlen(text), 9), 1);
	assert_int_equal(scan.gid, 4);
	assert_int_equal(hits(true, USER_BY_ID, NULL, 6, text, strlen(text), 9), 1);
}

static void a_list_of_any_length(void **state)
{
	(void)state;
	size_t n = 200000;
	char *text = malloc(n * 8 + 32), *at = text;
	at += sprintf(at, "big:x:9:");
	for (size_t i = 0; i < n; i++)
		at += sprintf(at, "u%zu,", i);
	strcpy(at, "me\nnext:x:10:me");
	assert_int_equal(hits(true, USER_BY_MEMBER, "me", 0, text, strlen(text), 2048), 2);
	assert_int_equal(scan.gid, 10);
	free(text);
}

static bool valid(const char *spec)
{
	return user_spec_valid(spec, strlen(spec));
}

static void the_form_of_a_user(void **state)
{
	(void)state;
	char long_name[USER_NAME_MAX + 2];
	static const char *const good[] = {"",    "a",   "0",          "a:", "a:b", ":b",
					   "1:2", "1:b", "4294967294", "-1", "007", ":"};
	static const char *const bad[] = {"a:b:c", "::", "4294967295", "a:4294967295",
					  "99999999999999999999"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(valid(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(valid(bad[i]));
	memset(long_name, 'a', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	assert_false(valid(long_name));
	assert_true(user_spec_valid(long_name, USER_NAME_MAX));
}

static void resolved_on_this_machine(void **state)
{
	(void)state;
	struct user u;
	assert_int_equal(user_resolve("", &u), 0);
	assert_int_equal(u.uid + u.gid + u.n_groups, 0);
	assert_string_equal(u.home, "/root");
	assert_int_equal(user_resolve("3000000001", &u), 0); /* needs no line */
	assert_int_equal(u.uid, 3000000001u);
	assert_int_equal(u.gid, 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(user_resolve("3000000001:3000000002", &u), 0);
	assert_int_equal(u.n_groups, 1);
	assert_int_equal(u.groups[0], 3000000002u);
	assert_int_equal(user_resolve("no such one", &u), -ENOENT);
	assert_string_equal(u.problem, "no such user in /etc/passwd");
	assert_int_equal(user_resolve("0:no such one", &u), -ENOENT);
	assert_string_equal(u.problem, "no such group in /etc/group");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_user_by_name_and_by_number),
		cmocka_unit_test(the_last_line_needs_no_newline),
		cmocka_unit_test(a_line_without_its_fields_counts_for_nothing),
		cmocka_unit_test(ids_up_to_the_kernels_last),
		cmocka_unit_test(a_nul_byte_breaks_its_line_alone),
		cmocka_unit_test(overlong_fields),
		cmocka_unit_test(groups_of_a_member),
		cmocka_unit_test(a_list_of_any_length),
		cmocka_unit_test(the_form_of_a_user),
		cmocka_unit_test(resolved_on_this_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
