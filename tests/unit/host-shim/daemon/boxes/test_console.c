#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <stdio.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/console.h"

#define CLEAN(out, literal) console_clean(out, sizeof out, literal, sizeof literal - 1)

static void cleaning(void **state)
{
	(void)state;
	char out[64];
	CLEAN(out, "plain\r\nlines\r\n");
	assert_string_equal(out, "plain\nlines");
	CLEAN(out, "\033[2J\033[1;31mred\033[0m \033]0;title\abell\a \033]8;;x\033\\link\033(B");
	assert_string_equal(out, "red bell linkB");
	CLEAN(out, "a\0b\x7f" "c\td\xc3\xa9\xff");
	assert_string_equal(out, "abc d???");
	CLEAN(out, "");
	assert_string_equal(out, "");
	CLEAN(out, "\r\n \n");
	assert_string_equal(out, "");
	/* Cut inside a sequence. */
	CLEAN(out, "x\033");
	assert_string_equal(out, "x");
	CLEAN(out, "x\033[12");
	assert_string_equal(out, "x");
	CLEAN(out, "x\033]0;never ends");
	assert_string_equal(out, "x");
}

static void the_end_is_kept(void **state)
{
	(void)state;
	char out[8];
	assert_int_equal(CLEAN(out, "0123456789"), 7);
	assert_string_equal(out, "3456789");
	char one[1];
	assert_int_equal(CLEAN(one, "x"), 0);
	assert_string_equal(one, "");
}

static void any_bytes(void **state)
{
	(void)state;
	char in[512], out[100];
	unsigned seed = 7;
	for (int round = 0; round < 2000; round++) {
		for (size_t i = 0; i < sizeof in; i++)
			in[i] = rand_r(&seed) % 4 ? (char)rand_r(&seed) : '\033';
		size_t n = console_clean(out, sizeof out, in, (size_t)rand_r(&seed) % sizeof in);
		assert_int_equal(n, strlen(out));
		for (size_t i = 0; i < n; i++)
			assert_true(out[i] == '\n' || (out[i] >= 0x20 && out[i] < 0x7f));
	}
}

static void excerpt_of_a_panic(void **state)
{
	(void)state;
	char out[CONSOLE_EXCERPT + 1], text[3000] = "";
	for (int i = 0; i < 30; i++)
		strcat(text, "[    0.1] a line of the boot\n");
	strcat(text, "[    9.8] Kernel panic - not syncing: sysrq triggered crash\n");
	for (int i = 0; i < 30; i++)
		strcat(text, "[    9.9]  some_function+0x10/0x20\n");
	assert_true(console_excerpt(out, sizeof out, text));
	assert_int_equal(strncmp(out, "Kernel panic - not syncing: sysrq", 33), 0);
	assert_int_equal(strlen(out), CONSOLE_EXCERPT);

	/* The echo at the end of the trace does not hide where it began. */
	strcat(text, "---[ end Kernel panic - not syncing: sysrq triggered crash ]---");
	assert_true(console_excerpt(out, sizeof out, text));
	assert_non_null(strstr(out, "some_function"));
}

static void excerpt_of_lines(void **state)
{
	(void)state;
	char out[20];
	assert_false(console_excerpt(out, sizeof out, "first line\nsecond line\nlast line"));
	assert_string_equal(out, "last line");
	assert_false(console_excerpt(out, sizeof out, "short"));
	assert_string_equal(out, "short");
	assert_false(console_excerpt(out, sizeof out, "one line that is far too long for it"));
	assert_int_equal(strlen(out), sizeof out - 1);
	assert_false(console_excerpt(out, sizeof out, ""));
	assert_string_equal(out, "");
}

static void reading(void **state)
{
	(void)state;
	char dir[] = "/tmp/tenon-console-XXXXXX", path[64], out[CONSOLE_EXCERPT + 1];
	assert_non_null(mkdtemp(dir));
	assert_false(console_read(out, sizeof out, dir));
	assert_string_equal(out, "");
	snprintf(path, sizeof path, "%s/console.log", dir);
	FILE *f = fopen(path, "w");
	for (int i = 0; i < 100000; i++)
		fprintf(f, "line %d\n", i);
	fputs("Kernel panic - not syncing: x", f);
	fclose(f);
	assert_true(console_read(out, sizeof out, dir));
	assert_string_equal(out, "Kernel panic - not syncing: x");
	unlink(path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_false(console_read(out, sizeof out, dir));
	assert_string_equal(out, "");
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cleaning),	    cmocka_unit_test(the_end_is_kept),	cmocka_unit_test(any_bytes),
		cmocka_unit_test(excerpt_of_a_panic), cmocka_unit_test(excerpt_of_lines), cmocka_unit_test(reading),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
