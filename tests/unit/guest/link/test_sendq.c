/* The send queue against a plain stream of bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/link/sendq.h"

static void keeps_order_and_bounds(void **state)
{
	(void)state;
	uint8_t buf[1000];
	struct sendq q;
	sendq_init(&q, buf, sizeof buf);
	uint8_t in = 0, out = 0;
	srand(3);
	for (int round = 0; round < 20000; round++) {
		uint8_t bytes[300];
		size_t n = (size_t)rand() % sizeof bytes, room = sendq_room(&q);
		for (size_t i = 0; i < n; i++)
			bytes[i] = (uint8_t)(in + i);
		assert_int_equal(sendq_put(&q, bytes, n), n <= room);
		if (n <= room)
			in = (uint8_t)(in + n);
		size_t take = sendq_len(&q) ? (size_t)rand() % (sendq_len(&q) + 1) : 0;
		for (size_t i = 0; i < take; i++)
			assert_int_equal(q.buf[q.start + i], out++);
		sendq_consume(&q, take);
		assert_int_equal(sendq_len(&q) + sendq_room(&q), sizeof buf);
	}
}

static void starts_anew_when_empty(void **state)
{
	(void)state;
	uint8_t buf[100];
	struct sendq q;
	sendq_init(&q, buf, sizeof buf);
	sendq_put(&q, "abc", 3);
	sendq_consume(&q, 3);
	assert_int_equal(q.start, 0);
	assert_ptr_equal(sendq_reserve(&q, 100), buf);
	assert_null(sendq_reserve(&q, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(keeps_order_and_bounds),
					   cmocka_unit_test(starts_anew_when_empty)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
