/* TCP's numbers of /proc/net/snmp. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest/metrics/tcp.h"

#define NAMES                                                                                        \
	"Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets " \
	"CurrEstab InSegs\n"

static void numbers(void **state)
{
	(void)state;
	Tenon__TcpUse u = TENON__TCP_USE__INIT;
	assert_true(tcp_parse(
		"Ip: Forwarding\nIp: 1\n" NAMES "Tcp: 1 200 120000 -1 11 12 13 14 15 16\nUdp: x\n", &u));
	assert_int_equal(u.failed, 13);
	assert_int_equal(u.established, 15);
	assert_true(tcp_parse(NAMES "Tcp: 1 200", &u));
	assert_int_equal(u.established, 0);
}

static void odd_texts(void **state)
{
	(void)state;
	static const char *const none[] = {"", "Tcp:", NAMES, "Ip: 1\nTcp", "xTcp: 1\nxTcp: 2\n"};
	Tenon__TcpUse u = TENON__TCP_USE__INIT;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		assert_false(tcp_parse(none[i], &u));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(numbers), cmocka_unit_test(odd_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
