#include "host-shim/vmm/vsock_credit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void sends_what_the_guest_has_room_for(void **state)
{
	(void)state;
	struct credit c = {.peer_alloc = 1000};
	assert_int_equal(credit_free(&c), 1000);
	c.tx_cnt = 400;
	assert_int_equal(credit_free(&c), 600);
	c.peer_fwd_cnt = 300;
	assert_int_equal(credit_free(&c), 900);
	c.peer_alloc = 100; /* it may shrink below what is under way */
	assert_int_equal(credit_free(&c), 0);
}

static void counters_wrap(void **state)
{
	(void)state;
	struct credit c = {.tx_cnt = 100, .peer_fwd_cnt = UINT32_MAX - 99, .peer_alloc = 1000};
	assert_int_equal(credit_free(&c), 800);

	c = (struct credit){
		.rx_cnt = UINT32_MAX - 9, .fwd_cnt = UINT32_MAX - 9, .told_fwd_cnt = UINT32_MAX - 9};
	assert_true(credit_receive(&c, CREDIT_WINDOW));
	assert_int_equal(c.rx_cnt, CREDIT_WINDOW - 10);
	assert_false(credit_receive(&c, 1));
	c.fwd_cnt += CREDIT_WINDOW / 4 - 1;
	assert_false(credit_update_due(&c));
	c.fwd_cnt++;
	assert_true(credit_update_due(&c));
}

static void lies_starve_the_liar(void **state)
{
	(void)state;
	struct credit c = {
		.tx_cnt = 100, .peer_fwd_cnt = 101, .peer_alloc = UINT32_MAX}; /* read more than was sent */
	assert_int_equal(credit_free(&c), 0);
}

static void the_window_bounds_the_guest(void **state)
{
	(void)state;
	struct credit c = {0};
	assert_false(credit_receive(&c, CREDIT_WINDOW + 1));
	assert_false(credit_receive(&c, UINT32_MAX));
	assert_true(credit_receive(&c, CREDIT_WINDOW - 1));
	assert_false(credit_receive(&c, 2));
	assert_true(credit_receive(&c, 1));
	c.fwd_cnt += 10;
	assert_false(credit_receive(&c, 11));
	assert_true(credit_receive(&c, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends_what_the_guest_has_room_for),
		cmocka_unit_test(counters_wrap),
		cmocka_unit_test(lies_starve_the_liar),
		cmocka_unit_test(the_window_bounds_the_guest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
