/* /proc/net/dev. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/netdev.h"

#define HEADING                                                                                              \
	"Inter-|   Receive                                                |  Transmit\n"                     \
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo " \
	"colls carrier compressed\n"

static void counters(void **state)
{
	(void)state;
	const char *text =
		HEADING "    lo:    3193      29    0    0    0     0          0         0     3193      29"
			"    0    0    0     0       0          0\n"
			"  eth0:1234567890123 9 1 2 3 4 5 6 77 8 10 20 30 40 50 60";
	Tenon__NetworkUse u = TENON__NETWORK_USE__INIT;
	assert_true(netdev_next(&text, &u));
	assert_int_equal(u.name.len, 2);
	assert_memory_equal(u.name.data, "lo", 2);
	assert_int_equal(u.received_bytes, 3193);
	assert_true(netdev_next(&text, &u));
	assert_memory_equal(u.name.data, "eth0", 4);
	assert_int_equal(u.received_bytes, 1234567890123);
	assert_int_equal(u.received_packets, 9);
	assert_int_equal(u.sent_bytes, 77);
	assert_int_equal(u.sent_packets, 8);
	assert_int_equal(u.errors, 11);
	assert_int_equal(u.dropped, 22);
	assert_false(netdev_next(&text, &u));
}

static void odd_texts(void **state)
{
	(void)state;
	static const char *const none[] = {"", HEADING, "\n\n", ":", " : 1 2 3", "eth0", "   "};
	Tenon__NetworkUse u = TENON__NETWORK_USE__INIT;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		const char *text = none[i];
		assert_false(netdev_next(&text, &u));
	}
	const char *text = "x:";
	assert_true(netdev_next(&text, &u));
	assert_int_equal(u.received_bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(counters), cmocka_unit_test(odd_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
