/* Settings of a box live in its row as JSON: what goes in comes out, silence included. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/boxes/settings.h"

static struct box_settings full(void)
{
	static char *entrypoint[] = {"/entry", "a b", NULL}, *none[] = {NULL}, *env[] = {"A=\xc3\xa9", NULL};
	static struct volume_mount volumes[] = {{"V1", "/data", true}, {"V2", "/more", false}};
	return (struct box_settings){.entrypoint = entrypoint,
				     .cmd = none,
				     .user = "1000:5",
				     .image_command = true,
				     .tty = true,
				     .no_stdin = true,
				     .cap_add = UINT64_MAX,
				     .cap_drop = 1 << 13,
				     .outbound = true,
				     .preset = "standard",
				     .volumes = volumes,
				     .n_volumes = 2,
				     .image_digest = "sha256:00",
				     .image = {.env = env, .user = "app", .working_dir = "/srv"}};
}

static void check_full(const struct box_settings *s)
{
	assert_string_equal(s->entrypoint[0], "/entry");
	assert_string_equal(s->entrypoint[1], "a b");
	assert_null(s->entrypoint[2]);
	assert_non_null(s->cmd); /* an empty list is said, and not silence */
	assert_null(s->cmd[0]);
	assert_string_equal(s->user, "1000:5");
	assert_true(s->tty && s->no_stdin && s->image_command && s->outbound);
	assert_true(s->cap_add == UINT64_MAX && s->cap_drop == 1 << 13);
	assert_string_equal(s->preset, "standard");
	assert_int_equal(s->n_volumes, 2);
	assert_string_equal(s->volumes[0].volume, "V1");
	assert_string_equal(s->volumes[1].guest_path, "/more");
	assert_true(s->volumes[0].read_only && !s->volumes[1].read_only);
	assert_string_equal(s->image_digest, "sha256:00");
	assert_null(s->image.entrypoint);
	assert_null(s->image.cmd);
	assert_string_equal(s->image.env[0], "A=\xc3\xa9");
	assert_string_equal(s->image.user, "app");
	assert_string_equal(s->image.working_dir, "/srv");
}

static void test_copy_and_json(void **state)
{
	(void)state;
	struct box_settings from = full(), copy, read;
	struct err e = {0};
	assert_int_equal(settings_copy(&copy, &from), 0);
	check_full(&copy);
	char *text = settings_to_json(&copy);
	settings_finish(&copy);
	assert_int_equal(settings_from_json(&read, text, &e), 0);
	free(text);
	check_full(&read);
	settings_finish(&read);
}

static void test_silence(void **state)
{
	(void)state;
	struct box_settings read;
	struct err e = {0};
	assert_int_equal(settings_from_json(&read, "{}", &e), 0); /* rows of before there were settings */
	assert_null(read.entrypoint);
	assert_null(read.cmd);
	assert_false(read.outbound);
	settings_finish(&read);
	assert_int_equal(settings_from_json(&read, "[", &e), -EINVAL);
	assert_int_equal(settings_from_json(&read, NULL, &e), -EINVAL);
	assert_int_not_equal(settings_from_json(&read, "{\"volumes\":[{}]}", &e), 0);
	/* What came after it was not freed, and an archive may have as much of that as it likes. */
	assert_int_not_equal(settings_from_json(&read, "{\"cmd\":[\"a\",1,\"b\"]}", &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_copy_and_json),
					   cmocka_unit_test(test_silence)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
