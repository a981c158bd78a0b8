/* exit.json may be cut, huge, of another type, or full of what terminals obey. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/exit_file.h"

static int parse(struct exit_file *out, const char *text)
{
	struct err e = {0};
	int r = exit_file_parse(out, text, strlen(text), &e);
	assert_int_equal(r < 0, e.errnum != 0);
	return r;
}

static void reasons(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum exit_reason reason;
	} known[] = {
		{"{\"reason\":\"guest_shutdown\",\"qemu_exit_code\":0,\"message\":\"the guest powered off\"}", EXIT_GUEST_SHUTDOWN},
		{"{\"reason\":\"guest_reset\"}", EXIT_GUEST_RESET},
		{"{\"reason\":\"stopped\",\"at\":1,\"started_at\":0}\n", EXIT_STOPPED},
		{"{\"reason\":\"qemu_died\",\"qemu_signal\":9}", EXIT_QEMU_DIED},
		{"{\"reason\":\"start_failed\",\"later\":[{\"x\":null}]}", EXIT_START_FAILED},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		struct exit_file f;
		assert_int_equal(parse(&f, known[i].text), 0);
		assert_int_equal(f.reason, known[i].reason);
		assert_true(strlen(exit_reason_words(f.reason)) > 0);
	}
}

static void hostile(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"", "{", "null", "[]", "\"stopped\"", "{}", "{\"reason\":null}", "{\"reason\":[\"stopped\"]}",
		"{\"reason\":\"\"}", "{\"reason\":\"Stopped\"}", "{\"reason\":\"stopped\"", "{\"reason\":\"stopped\"}}",
		"{\"reason\":\"stopped\",\"reason\":\"guest_shutdown\"}", "{\"reason\":\"stopped\\u0000x\"}", "\xff\xfe",
		"{\"reason\":{\"reason\":\"stopped\"}}",
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct exit_file f;
		assert_int_equal(parse(&f, texts[i]), -EINVAL);
		assert_int_equal(f.reason, EXIT_UNKNOWN);
	}
	struct exit_file f;
	assert_int_equal(exit_file_parse(&f, "{\"reason\":\"stopped\"}\0x", 22, NULL), -EINVAL);

	size_t deep = EXIT_FILE_MAX - 1;
	char *nest = malloc(deep + 2);
	memset(nest, '[', deep);
	nest[deep] = '\0';
	assert_int_equal(parse(&f, nest), -EINVAL);
	nest[deep] = '[';
	nest[deep + 1] = '\0';
	assert_int_equal(exit_file_parse(&f, nest, EXIT_FILE_MAX + 1, NULL), -EINVAL);
	free(nest);
}

static void message_is_cleaned(void **state)
{
	(void)state;
	struct exit_file f;
	assert_int_equal(parse(&f, "{\"reason\":\"qemu_died\",\"message\":\"a\\u001b[31mb\\u0007c\\u00e9\"}"), 0);
	assert_string_equal(f.message, "abc??");
	assert_int_equal(parse(&f, "{\"reason\":\"qemu_died\",\"message\":7}"), 0);
	assert_string_equal(f.message, "");

	char text[4000] = "{\"reason\":\"qemu_died\",\"message\":\"";
	size_t at = strlen(text);
	memset(text + at, 'm', 3000);
	strcpy(text + at + 3000, "\"}");
	assert_int_equal(parse(&f, text), 0);
	assert_int_equal(strlen(f.message), sizeof f.message - 1);
}

static void reading(void **state)
{
	(void)state;
	char dir[] = "/tmp/tenon-exit-XXXXXX", path[64];
	assert_non_null(mkdtemp(dir));
	struct exit_file f;
	assert_int_equal(exit_file_read(&f, dir, NULL), -ENOENT);
	snprintf(path, sizeof path, "%s/exit.json", dir);
	assert_int_equal(symlink("/proc/self/stat", path), 0);
	assert_int_equal(exit_file_read(&f, dir, NULL), -ELOOP);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_true(exit_file_read(&f, dir, NULL) < 0);
	unlink(path);
	FILE *out = fopen(path, "w");
	fputs("{\"reason\":\"stopped\"}\n", out);
	fclose(out);
	assert_int_equal(exit_file_read(&f, dir, NULL), 0);
	assert_int_equal(f.reason, EXIT_STOPPED);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reasons),
		cmocka_unit_test(hostile),
		cmocka_unit_test(message_is_cleaned),
		cmocka_unit_test(reading),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
