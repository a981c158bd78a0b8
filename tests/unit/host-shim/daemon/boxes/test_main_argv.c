/* docker's table of ENTRYPOINT and CMD, given by the image and by create. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/boxes/main_argv.h"

static char *entry[] = {"/entry", "-e", NULL}, *cmd[] = {"c 1", "c2", NULL}, *none[] = {NULL};
static char *image_entry[] = {"/image", NULL}, *image_cmd[] = {"ic", NULL};

/* What runs, its words joined by ','. */
static void check(struct box_settings s, const char *expected)
{
	char joined[128] = "";
	const char **argv = main_argv(&s);
	assert_non_null(argv);
	for (const char **p = argv; *p; p++)
		snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s",
			 p == argv ? "" : ",", *p);
	free(argv);
	assert_string_equal(joined, expected);
	assert_int_equal(main_is_given(&s), expected[0] != '\0');
}

static void test_the_image_says_nothing(void **state)
{
	(void)state;
	check((struct box_settings){0}, "");
	check((struct box_settings){.image_command = true}, "");
	check((struct box_settings){.cmd = cmd}, "c 1,c2");
	check((struct box_settings){.entrypoint = entry}, "/entry,-e");
	check((struct box_settings){.entrypoint = entry, .cmd = cmd}, "/entry,-e,c 1,c2");
	check((struct box_settings){.entrypoint = none, .cmd = none}, "");
}

static void test_the_image_says_both(void **state)
{
	(void)state;
	const struct image_config image = {.entrypoint = image_entry, .cmd = image_cmd};
	/* Unasked, a box idles: its clients run what they want. */
	check((struct box_settings){.image = image}, "");
	check((struct box_settings){.image = image, .image_command = true}, "/image,ic");
	check((struct box_settings){.image = image, .cmd = cmd}, "/image,c 1,c2");
	/* An entrypoint voids the image's cmd. */
	check((struct box_settings){.image = image, .entrypoint = entry}, "/entry,-e");
	check((struct box_settings){.image = image, .entrypoint = entry, .image_command = true}, "/entry,-e");
	check((struct box_settings){.image = image, .entrypoint = entry, .cmd = cmd}, "/entry,-e,c 1,c2");
	/* An empty list is said too. */
	check((struct box_settings){.image = image, .cmd = none}, "/image");
	check((struct box_settings){.image = image, .entrypoint = none}, "");
	check((struct box_settings){.image = image, .entrypoint = none, .cmd = cmd}, "c 1,c2");
}

static void test_the_image_says_one(void **state)
{
	(void)state;
	const struct image_config e = {.entrypoint = image_entry}, c = {.cmd = image_cmd};
	check((struct box_settings){.image = e, .image_command = true}, "/image");
	check((struct box_settings){.image = c, .image_command = true}, "ic");
	check((struct box_settings){.image = e, .cmd = cmd}, "/image,c 1,c2");
	check((struct box_settings){.image = c, .cmd = cmd}, "c 1,c2");
	check((struct box_settings){.image = c, .entrypoint = entry}, "/entry,-e");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_image_says_nothing),
		cmocka_unit_test(test_the_image_says_both),
		cmocka_unit_test(test_the_image_says_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
