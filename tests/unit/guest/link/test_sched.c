/* Turns: everybody once, in the order of asking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/link/sched.h"

static void in_the_order_of_asking(void **state)
{
	(void)state;
	struct sched s;
	sched_init(&s);
	assert_int_equal(sched_pop(&s), -1);
	sched_push(&s, 7);
	sched_push(&s, 1023);
	sched_push(&s, 7);
	sched_push(&s, 0);
	assert_int_equal(sched_pop(&s), 7);
	sched_push(&s, 7);
	assert_int_equal(sched_pop(&s), 1023);
	assert_int_equal(sched_pop(&s), 0);
	assert_int_equal(sched_pop(&s), 7);
	assert_true(sched_empty(&s));
	assert_int_equal(sched_pop(&s), -1);
}

static void nobody_starves(void **state)
{
	(void)state;
	struct sched s;
	int turns[EXEC_ROWS] = {0};
	sched_init(&s);
	for (int i = 0; i < EXEC_ROWS; i++)
		sched_push(&s, i);
	for (int i = 0; i < 10 * EXEC_ROWS; i++) {
		int row = sched_pop(&s);
		turns[row]++;
		sched_push(&s, row); /* always hungry */
	}
	for (int i = 0; i < EXEC_ROWS; i++)
		assert_int_equal(turns[i], 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(in_the_order_of_asking),
					   cmocka_unit_test(nobody_starves)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
