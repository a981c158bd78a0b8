/* The merge rule of guest/exec/env.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/env.h"

static uint8_t mem[65536];

static char **merge(const char *const *box, const char *const *changes)
{
	ProtobufCBinaryData c[16];
	size_t n_box = 0, n = 0;
	while (box[n_box])
		n_box++;
	for (; changes[n]; n++)
		c[n] = (ProtobufCBinaryData){strlen(changes[n]), (uint8_t *)changes[n]};
	struct bump b;
	bump_init(&b, mem, sizeof mem);
	return env_merge(&b, (char *const *)box, n_box, c, n);
}

static void assert_env(char **env, const char *const *expected)
{
	for (; *expected; expected++, env++) {
		assert_non_null(*env);
		assert_string_equal(*env, *expected);
	}
	assert_null(*env);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NONE ((const char *const[]){NULL})

static void the_box_alone(void **state)
{
	(void)state;
	assert_env(merge(LIST("A=1", "B=2"), NONE), LIST("A=1", "B=2"));
	assert_env(merge(NONE, NONE), NONE);
}

static void changes_replace_add_and_remove(void **state)
{
	(void)state;
	assert_env(merge(LIST("A=1", "B=2", "C=3"), LIST("B=x", "D=4", "A")), LIST("C=3", "B=x", "D=4"));
}

static void the_last_of_a_name_counts(void **state)
{
	(void)state;
	assert_env(merge(NONE, LIST("A=1", "A=2")), LIST("A=2"));
	assert_env(merge(LIST("A=0"), LIST("A=1", "A")), NONE);
	assert_env(merge(LIST("A=0"), LIST("A", "A=1")), LIST("A=1"));
}

static void names_are_whole(void **state)
{
	(void)state;
	assert_env(merge(LIST("AB=1", "A=2"), LIST("A=3")), LIST("AB=1", "A=3"));
	assert_env(merge(LIST("A=2"), LIST("AB")), LIST("A=2"));
}

static void values_may_hold_anything(void **state)
{
	(void)state;
	assert_env(merge(LIST("A=b=c", "E="), LIST("F=\xff=\n")), LIST("A=b=c", "E=", "F=\xff=\n"));
}

static void a_full_arena_is_told(void **state)
{
	(void)state;
	struct bump b;
	enum { NEEDED = (1 + ENV_SPARE + 1) * sizeof(char *) + 41 }; /* the array, the string */
	uint8_t little[NEEDED];
	ProtobufCBinaryData c = {40, (uint8_t *)"A=23456789012345678901234567890123456789"};
	for (size_t room = 0; room < NEEDED; room++) {
		bump_init(&b, little, room);
		assert_null(env_merge(&b, NULL, 0, &c, 1));
		assert_true(b.overflowed);
	}
	bump_init(&b, little, NEEDED);
	assert_non_null(env_merge(&b, NULL, 0, &c, 1));
}

static void gets(void **state)
{
	(void)state;
	char *env[] = {"PATHX=1", "PATH=/bin", "PATH=/second", NULL};
	assert_string_equal(env_get(env, "PATH"), "/bin");
	assert_null(env_get(env, "PAT"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_box_alone),
		cmocka_unit_test(changes_replace_add_and_remove),
		cmocka_unit_test(the_last_of_a_name_counts),
		cmocka_unit_test(names_are_whole),
		cmocka_unit_test(values_may_hold_anything),
		cmocka_unit_test(a_full_arena_is_told),
		cmocka_unit_test(gets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
