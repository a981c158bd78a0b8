/* rtnetlink messages: built as the kernel wants them, read without trusting a length; and a word with the
 * kernel. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/net/netlink.h"

static void a_message_has_its_body_and_attributes(void **state)
{
	(void)state;
	struct netlink_request r;
	struct rtmsg body = {.rtm_family = AF_INET, .rtm_dst_len = 16};
	netlink_begin(&r, RTM_NEWROUTE, NLM_F_CREATE, &body, sizeof body);
	assert_true(netlink_put(&r, RTA_DST, "\x0a\x01\0\0", 4));
	assert_true(netlink_put(&r, RTA_GATEWAY, "abc", 3)); /* an odd length is padded */
	assert_true(netlink_put_u32(&r, RTA_OIF, 7));

	/* clang-format off */
	static const uint8_t want[] = {
		52, 0, 0, 0, RTM_NEWROUTE, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, /* nlmsghdr: REQUEST | CREATE */
		2, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                        /* rtmsg */
		8, 0, 1, 0, 10, 1, 0, 0,                                    /* RTA_DST */
		7, 0, 5, 0, 'a', 'b', 'c', 0,                               /* RTA_GATEWAY */
		8, 0, 4, 0, 7, 0, 0, 0,                                     /* RTA_OIF */
	};
	/* clang-format on */
	assert_int_equal(r.head.nlmsg_len, sizeof want);
	assert_memory_equal(r.bytes, want, sizeof want);
}

static void what_does_not_fit_is_not_appended(void **state)
{
	(void)state;
	struct netlink_request r;
	uint8_t big[NETLINK_REQUEST_MAX] = {0};
	netlink_begin(&r, RTM_SETLINK, 0, &(struct ifinfomsg){0}, sizeof(struct ifinfomsg));
	uint32_t before = r.head.nlmsg_len;
	assert_false(netlink_put(&r, IFLA_IFNAME, big, sizeof big));
	assert_int_equal(r.head.nlmsg_len, before);
	size_t room = sizeof r.bytes - before - RTA_LENGTH(0);
	assert_true(netlink_put(&r, IFLA_IFNAME, big, room));
	assert_int_equal(r.head.nlmsg_len, sizeof r.bytes);
	assert_false(netlink_put(&r, IFLA_MTU, big, 0));
}

static void attributes_are_found(void **state)
{
	(void)state;
	struct netlink_request r;
	size_t len = 99;
	netlink_begin(&r, RTM_NEWADDR, 0, &(struct ifaddrmsg){0}, sizeof(struct ifaddrmsg));
	netlink_put(&r, IFA_ADDRESS, "12345", 5);
	netlink_put(&r, IFA_LOCAL, "6789", 4);
	assert_memory_equal(netlink_attr(&r.head, sizeof(struct ifaddrmsg), IFA_LOCAL, &len), "6789", 4);
	assert_int_equal(len, 4);
	assert_memory_equal(netlink_attr(&r.head, sizeof(struct ifaddrmsg), IFA_ADDRESS, &len), "12345", 5);
	assert_int_equal(len, 5);
	assert_null(netlink_attr(&r.head, sizeof(struct ifaddrmsg), IFA_FLAGS, &len));
}

/* Every length that a message can claim, at every place: what is beyond its end is never read. */
static void lengths_are_not_believed(void **state)
{
	(void)state;
	struct netlink_request r;
	netlink_begin(&r, RTM_NEWADDR, 0, &(struct ifaddrmsg){0}, sizeof(struct ifaddrmsg));
	netlink_put(&r, IFA_ADDRESS, "12345", 5);
	netlink_put(&r, IFA_LOCAL, "6789", 4);
	size_t whole = NLMSG_ALIGN(r.head.nlmsg_len);
	for (size_t n = 0; n <= whole; n++) {
		uint8_t *copy = malloc(n ? n : 1); /* as long as that, so that ASan sees a step too far */
		memcpy(copy, r.bytes, n);
		size_t at = 0, len;
		const struct nlmsghdr *m = netlink_next(copy, n, &at);
		if (n < r.head.nlmsg_len)
			assert_null(m);
		if (m)
			netlink_attr(m, sizeof(struct ifaddrmsg), 99, &len);
		free(copy);
	}
	for (unsigned claim = 0; claim < 70000; claim += claim < 200 ? 1 : 997) {
		size_t at = 0, len;
		struct netlink_request bad = r;
		bad.head.nlmsg_len = claim;
		const struct nlmsghdr *m = netlink_next(bad.bytes, whole, &at);
		assert_true(!m || (claim >= sizeof *m && claim <= whole));
		if (m)
			netlink_attr(m, sizeof(struct ifaddrmsg), IFA_LOCAL, &len);

		bad = r;
		uint16_t length = (uint16_t)claim;
		memcpy(bad.bytes + NLMSG_SPACE(sizeof(struct ifaddrmsg)), &length, 2);
		const uint8_t *found = netlink_attr(&bad.head, sizeof(struct ifaddrmsg), IFA_LOCAL, &len);
		assert_true(!found || found + len <= bad.bytes + whole);
	}
}

static void several_in_one_datagram(void **state)
{
	(void)state;
	struct netlink_request r[2];
	for (int i = 0; i < 2; i++) {
		netlink_begin(&r[i], (uint16_t)(RTM_NEWLINK + i), 0, "x", 1);
		r[i].head.nlmsg_len = sizeof r[i].bytes;
	}
	size_t at = 0;
	assert_int_equal(netlink_next(r, sizeof r, &at)->nlmsg_type, RTM_NEWLINK);
	assert_int_equal(netlink_next(r, sizeof r, &at)->nlmsg_type, RTM_NEWLINK + 1);
	assert_null(netlink_next(r, sizeof r, &at));
}

static int count_lo(const struct nlmsghdr *m, void *arg)
{
	size_t len;
	const char *name = netlink_attr(m, sizeof(struct ifinfomsg), IFLA_IFNAME, &len);
	*(int *)arg += name && len == 3 && memcmp(name, "lo", 3) == 0;
	return 0;
}

static int stops(const struct nlmsghdr *m, void *arg)
{
	(void)m;
	++*(int *)arg;
	return 5;
}

/* This machine's interfaces may be listed by anybody. */
static void the_kernel_answers(void **state)
{
	(void)state;
	struct netlink_request r;
	struct ifinfomsg all = {.ifi_family = AF_UNSPEC};
	int fd = netlink_open(0), found = 0, seen = 0;
	assert_true(fd >= 0);
	netlink_begin(&r, RTM_GETLINK, 0, &all, sizeof all);
	assert_int_equal(netlink_dump(fd, &r, count_lo, &found), 0);
	assert_int_equal(found, 1);
	netlink_begin(&r, RTM_GETLINK, 0, &all, sizeof all);
	assert_int_equal(netlink_dump(fd, &r, stops, &seen), 5);
	assert_int_equal(seen, 1);

	struct ifinfomsg nobody = {.ifi_family = AF_UNSPEC, .ifi_index = 0x7ffffff};
	netlink_begin(&r, RTM_GETLINK, 0, &nobody, sizeof nobody);
	assert_int_equal(netlink_talk(fd, &r), -ENODEV);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_has_its_body_and_attributes),
		cmocka_unit_test(what_does_not_fit_is_not_appended),
		cmocka_unit_test(attributes_are_found),
		cmocka_unit_test(lengths_are_not_believed),
		cmocka_unit_test(several_in_one_datagram),
		cmocka_unit_test(the_kernel_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
