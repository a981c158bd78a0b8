/* Which frames may reach the host's sockets, and above all which may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/net/gate.h"

enum { ICMP = 1, TCP = 6, UDP = 17, ICMP6 = 58 };

struct frame {
	uint8_t bytes[14 + 40 + 20];
	size_t len;
};

/* On the heap and of its exact size, so that the sanitizer sees what is read behind it. */
static bool passes(const struct frame *f)
{
	uint8_t *copy = malloc(f->len + !f->len);
	memcpy(copy, f->bytes, f->len);
	bool yes = gate_passes(copy, f->len);
	free(copy);
	return yes;
}

/* first: of the body, where ICMP has its type; port: where TCP and UDP have the destination's. */
static struct frame make(const char *from, const char *to, uint8_t protocol, uint8_t first, uint16_t port)
{
	struct frame f = {.bytes = {[12] = 0x08}};
	bool six = strchr(to, ':');
	uint8_t *ip = f.bytes + 14, *body = ip + (six ? 40 : 20);
	if (six) {
		f.bytes[12] = 0x86;
		f.bytes[13] = 0xdd;
		ip[0] = 0x60;
		ip[5] = 20;
		ip[6] = protocol;
		assert_int_equal(inet_pton(AF_INET6, from, ip + 8), 1);
		assert_int_equal(inet_pton(AF_INET6, to, ip + 24), 1);
	} else {
		ip[0] = 0x45;
		ip[3] = 40;
		ip[9] = protocol;
		assert_int_equal(inet_pton(AF_INET, from, ip + 12), 1);
		assert_int_equal(inet_pton(AF_INET, to, ip + 16), 1);
	}
	body[0] = first;
	body[2] = (uint8_t)(port >> 8);
	body[3] = (uint8_t)port;
	f.len = (size_t)(body - f.bytes) + 20;
	return f;
}

static bool reaches(const char *to, uint8_t protocol, uint16_t port)
{
	struct frame f = make(strchr(to, ':') ? "fec0::15" : "10.0.2.15", to, protocol, 0, port);
	return passes(&f);
}

static bool pings(const char *to)
{
	bool six = strchr(to, ':');
	struct frame f = make(six ? "fec0::15" : "10.0.2.15", to, six ? ICMP6 : ICMP, six ? 128 : 8, 0);
	return passes(&f);
}

static void the_outside_is_reached(void **state)
{
	(void)state;
	static const char *const there[] = {"1.1.1.1",     "10.0.3.1",        "10.1.2.3",  "172.17.0.1",
					    "192.168.0.1", "223.255.255.255", "126.0.0.1", "128.0.0.1",
					    "169.253.0.1", "2001:db8::1",     "fd00::1",   "3fff::1"};
	for (size_t i = 0; i < sizeof there / sizeof *there; i++)
		if (!reaches(there[i], TCP, 80) || !reaches(there[i], UDP, 4000) || !pings(there[i]))
			fail_msg("%s", there[i]);
}

static void the_host_itself_is_not(void **state)
{
	(void)state;
	static const char *const here[] = {
		"127.0.0.1",
		"127.0.0.53",
		"127.255.255.255",
		"0.0.0.0",
		"0.1.2.3",
		"10.0.2.0",
		"10.0.2.2",
		"10.0.2.3",
		"10.0.2.4",
		"10.0.2.15",
		"10.0.2.255",
		"169.254.1.1",
		"169.254.169.254",
		"224.0.0.251",
		"239.255.255.250",
		"255.255.255.255",
		"240.0.0.1",
		"::",
		"::1",
		"::ffff:127.0.0.1",
		"::127.0.0.1",
		"fe80::1",
		"fec0::2",
		"fec0::3",
		"fec0::15",
		"fec1::1",
		"ff02::1",
		"ff05::2",
		"ff0e::1",
		"64:ff9b::7f00:1",
		"100::1",
		"4000::1",
	};
	for (size_t i = 0; i < sizeof here / sizeof *here; i++)
		for (uint16_t port = 54; port < 1024; port += 11)
			if (reaches(here[i], TCP, port) || reaches(here[i], UDP, port))
				fail_msg("%s port %u", here[i], port);
}

static void of_the_resolver_only_its_port_is(void **state)
{
	(void)state;
	static const char *const resolvers[] = {"10.0.2.3", "fec0::3"};
	for (size_t i = 0; i < 2; i++)
		for (unsigned port = 0; port <= UINT16_MAX; port++)
			if (reaches(resolvers[i], TCP, (uint16_t)port) != (port == 53) ||
			    reaches(resolvers[i], UDP, (uint16_t)port) != (port == 53))
				fail_msg("%s port %u", resolvers[i], port);
	assert_false(reaches("10.0.2.2", UDP, 53));
	assert_false(reaches("fec0::2", TCP, 53));
}

static void ping_is_all_of_icmp(void **state)
{
	(void)state;
	assert_true(pings("10.0.2.2") && pings("10.0.2.3") && pings("fec0::2") && pings("fec0::3"));
	assert_false(pings("10.0.2.4") || pings("127.0.0.1") || pings("::1") || pings("255.255.255.255"));
	for (unsigned type = 0; type < 256; type++) {
		struct frame f = make("10.0.2.15", "1.1.1.1", ICMP, (uint8_t)type, 0);
		assert_int_equal(passes(&f), type == 8);
		f = make("fec0::15", "2001:db8::1", ICMP6, (uint8_t)type, 0);
		assert_int_equal(passes(&f), type == 128);
		/* Neighbours are asked and answered, routers are not. */
		f = make("fe80::1", "ff02::2", ICMP6, (uint8_t)type, 0);
		assert_int_equal(passes(&f), type == 135 || type == 136);
		f = make("fec0::15", "fec0::2", ICMP6, (uint8_t)type, 0);
		assert_int_equal(passes(&f), type == 128 || type == 135 || type == 136);
	}
}

static void only_the_guest_sends(void **state)
{
	(void)state;
	static const char *const strangers[] = {"127.0.0.1", "10.0.2.2", "10.0.2.16", "0.0.0.0"};
	static const char *const strangers6[] = {"::1", "fec0::2", "fe80::1", "::"};
	for (size_t i = 0; i < 4; i++) {
		struct frame f = make(strangers[i], "1.1.1.1", TCP, 0, 80);
		assert_false(passes(&f));
		f = make(strangers6[i], "2001:db8::1", UDP, 0, 80);
		assert_false(passes(&f));
		f = make(strangers6[i], "2001:db8::1", ICMP6, 128, 0);
		assert_false(passes(&f));
	}
}

static void odd_headers_stay_outside(void **state)
{
	(void)state;
	const struct {
		size_t at;
		uint8_t value;
	} four[] = {{14, 0x46}, {14, 0x44}, {14, 0x55}, {17, 41}, {17, 23}, {16, 1},
		    {20, 0x20}, {20, 0x1f}, {21, 1},    {23, 2},  {23, 41}, {13, 6 + 1}},
	  six[] = {{14, 0x45}, {18, 1}, {19, 21}, {19, 3}, {20, 0}, {20, 43}, {20, 44}, {20, 60}, {13, 0xdc}};
	for (size_t i = 0; i < sizeof four / sizeof *four; i++) {
		struct frame f = make("10.0.2.15", "1.1.1.1", TCP, 0, 80);
		f.bytes[20] = 0x40; /* "do not fragment" is no fragment */
		assert_true(passes(&f));
		f.bytes[four[i].at] = four[i].value;
		if (passes(&f))
			fail_msg("IPv4: %zu = %u", four[i].at, four[i].value);
	}
	for (size_t i = 0; i < sizeof six / sizeof *six; i++) {
		struct frame f = make("fec0::15", "2001:db8::1", TCP, 0, 80);
		f.bytes[six[i].at] = six[i].value;
		if (passes(&f))
			fail_msg("IPv6: %zu = %u", six[i].at, six[i].value);
	}
}

static void short_frames_stay_outside(void **state)
{
	(void)state;
	struct frame four = make("10.0.2.15", "1.1.1.1", TCP, 0, 80);
	struct frame six = make("fec0::15", "2001:db8::1", TCP, 0, 80);
	struct frame arp = {.bytes = {[12] = 8, 6, 0, 1, 8, 0, 6, 4}, .len = 42};
	assert_true(passes(&arp));
	while (four.len-- > 0)
		assert_false(passes(&four));
	while (six.len-- > 0)
		assert_false(passes(&six));
	while (arp.len-- > 0)
		assert_false(passes(&arp));
	arp.len = 42;
	arp.bytes[15] = 2; /* not Ethernet's */
	assert_false(passes(&arp));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_outside_is_reached),
		cmocka_unit_test(the_host_itself_is_not),
		cmocka_unit_test(of_the_resolver_only_its_port_is),
		cmocka_unit_test(ping_is_all_of_icmp),
		cmocka_unit_test(only_the_guest_sends),
		cmocka_unit_test(odd_headers_stay_outside),
		cmocka_unit_test(short_frames_stay_outside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
