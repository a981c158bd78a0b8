#include "host-shim/vmm/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

static ssize_t parse(const char *line, uint32_t *port)
{
	return connect_line_parse(line, strlen(line), port);
}

static void reads_ports(void **state)
{
	(void)state;
	uint32_t port = 0;
	assert_int_equal(parse("CONNECT 1000\n", &port), 13);
	assert_int_equal(port, 1000);
	assert_int_equal(parse("CONNECT 0\n", &port), 10);
	assert_int_equal(port, 0);
	assert_int_equal(parse("CONNECT 4294967294\n", &port), CONNECT_LINE_MAX);
	assert_int_equal(port, 4294967294u);
	assert_int_equal(parse("CONNECT 7\nGET / and more", &port), 10);
	assert_int_equal(port, 7);
}

static void waits_for_the_rest(void **state)
{
	(void)state;
	const char line[] = "CONNECT 4294967294\n";
	uint32_t port;
	for (size_t n = 0; n < CONNECT_LINE_MAX; n++)
		assert_int_equal(connect_line_parse(line, n, &port), 0);
}

static void refuses_the_rest(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"connect 1\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT  1\n",
		"CONNECT -1\n",
		"CONNECT +1\n",
		"CONNECT 01\n",
		"CONNECT 1 \n",
		"CONNECT 1\r\n",
		"CONNECT 4294967295\n",
		"CONNECT 0x1\n",
		"CONNECT 99999999999",
		"X",
		"CONNECT 1x",
	};
	uint32_t port;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(parse(bad[i], &port), -EPROTO);
	assert_int_equal(connect_line_parse("CONNECT \0001\n", 11, &port), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_ports),
		cmocka_unit_test(waits_for_the_rest),
		cmocka_unit_test(refuses_the_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
