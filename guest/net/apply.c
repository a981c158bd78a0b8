#include "guest/net/apply.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "guest/loop.h"
#include "guest/net/netlink.h"
#include "proto/cleanup.h"

#define PROBE_MS 10000 /* until an interface has to be there */

static const char *step = "network";

struct found {
	int index;
	char was[IFNAMSIZ];
};

struct apply {
	const struct net_plan *plan;
	int fd;
	struct found of[NET_INTERFACES_MAX];
};

#define LO 1 /* its index, in every network namespace */

/* ---- finding ---- */

static int note_link(const struct nlmsghdr *m, void *arg)
{
	struct apply *a = arg;
	const struct ifinfomsg *info = NLMSG_DATA(m);
	size_t name_len, mac_len = 0;
	if (m->nlmsg_type != RTM_NEWLINK || m->nlmsg_len < NLMSG_LENGTH(sizeof *info))
		return 0;
	const char *name = netlink_attr(m, sizeof *info, IFLA_IFNAME, &name_len);
	const void *mac = netlink_attr(m, sizeof *info, IFLA_ADDRESS, &mac_len);
	if (!name || name_len == 0 || name_len > IFNAMSIZ || name[name_len - 1] != '\0')
		return 0;
	for (size_t i = 0; i < a->plan->n_interfaces; i++) {
		const struct net_interface *wanted = &a->plan->interfaces[i];
		bool it = wanted->by_mac ? mac && mac_len == NET_MAC_SIZE &&
						   memcmp(mac, wanted->mac, NET_MAC_SIZE) == 0
					 : strcmp(name, wanted->name) == 0;
		if (it && a->of[i].index == 0) {
			a->of[i].index = info->ifi_index;
			memcpy(a->of[i].was, name, name_len);
		}
	}
	return 0;
}

static const struct net_interface *missing(const struct apply *a)
{
	for (size_t i = 0; i < a->plan->n_interfaces; i++)
		if (a->of[i].index == 0)
			return &a->plan->interfaces[i];
	return NULL;
}

static int find_all(struct apply *a, struct err *e)
{
	_cleanup_close_ int news = netlink_open(RTMGRP_LINK);
	uint64_t end = clock_mono() + PROBE_MS * NSEC_PER_MSEC;
	for (;;) {
		struct netlink_request r;
		netlink_begin(&r, RTM_GETLINK, 0, &(struct ifinfomsg){.ifi_family = AF_UNSPEC},
			      sizeof(struct ifinfomsg));
		int n = netlink_dump(a->fd, &r, note_link, a);
		if (n < 0)
			return err_sys(e, step, -n, "cannot list the interfaces");
		const struct net_interface *m = missing(a);
		uint64_t now = clock_mono();
		if (!m)
			return 0;
		if (now >= end)
			return err_sys(e, step, ENODEV, "%s: no interface has its %s", m->name,
				       m->by_mac ? "mac" : "name");
		struct pollfd p = {.fd = news, .events = POLLIN};
		poll(&p, 1, (int)((end - now) / NSEC_PER_MSEC) + 1);
		char ignored[8192];
		while (recv(news, ignored, sizeof ignored, MSG_DONTWAIT) > 0)
			;
	}
}

/* ---- one change each: 0 or -errno ---- */

static void begin_link(struct netlink_request *r, int index, unsigned flags)
{
	struct ifinfomsg info = {
		.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = flags, .ifi_change = IFF_UP};
	netlink_begin(r, RTM_SETLINK, 0, &info, sizeof info);
}

static int set_up(int fd, int index, bool up)
{
	struct netlink_request r;
	begin_link(&r, index, up ? IFF_UP : 0);
	return netlink_talk(fd, &r);
}

static int set_name(int fd, int index, const char *name)
{
	struct netlink_request r;
	begin_link(&r, index, 0); /* down: one that is up keeps its name */
	netlink_put(&r, IFLA_IFNAME, name, strlen(name) + 1);
	return netlink_talk(fd, &r);
}

static int set_mtu(int fd, int index, uint32_t mtu)
{
	struct netlink_request r;
	struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = index};
	netlink_begin(&r, RTM_SETLINK, 0, &info, sizeof info);
	netlink_put_u32(&r, IFLA_MTU, mtu);
	return netlink_talk(fd, &r);
}

static int family(const struct net_ip *ip)
{
	return ip->len == 4 ? AF_INET : AF_INET6;
}

static int change_address(int fd, uint16_t type, uint16_t flags, int index, const struct net_ip *ip)
{
	struct netlink_request r;
	struct ifaddrmsg body = {
		.ifa_family = (uint8_t)family(ip), .ifa_prefixlen = ip->prefix, .ifa_index = (uint32_t)index};
	netlink_begin(&r, type, flags, &body, sizeof body);
	netlink_put(&r, IFA_LOCAL, ip->bytes, ip->len);
	netlink_put(&r, IFA_ADDRESS, ip->bytes, ip->len);
	if (ip->len == 4 && ip->prefix < 31) {
		uint8_t broadcast[4];
		for (unsigned i = 0; i < 4; i++) {
			unsigned kept = ip->prefix > i * 8 ? ip->prefix - i * 8 : 0;
			broadcast[i] = (uint8_t)(ip->bytes[i] | (kept >= 8 ? 0 : 0xff >> kept));
		}
		netlink_put(&r, IFA_BROADCAST, broadcast, sizeof broadcast);
	} else if (ip->len == 16) {
		/* The host gave it: nobody else has it, and it is of use at once. */
		netlink_put_u32(&r, IFA_FLAGS, IFA_F_NODAD);
	}
	return netlink_talk(fd, &r);
}

struct addresses {
	int index;
	struct net_ip found[64];
	size_t n;
};

static bool is_loopbacks_own(const struct net_ip *ip)
{
	static const uint8_t one[16] = {[15] = 1};
	return ip->len == 4 ? ip->bytes[0] == 127 : memcmp(ip->bytes, one, sizeof one) == 0;
}

static int note_address(const struct nlmsghdr *m, void *arg)
{
	struct addresses *a = arg;
	const struct ifaddrmsg *body = NLMSG_DATA(m);
	size_t len = 0;
	if (m->nlmsg_type != RTM_NEWADDR || m->nlmsg_len < NLMSG_LENGTH(sizeof *body) ||
	    body->ifa_index != (uint32_t)a->index)
		return 0;
	const void *ip = netlink_attr(m, sizeof *body, IFA_LOCAL, &len);
	if (!ip)
		ip = netlink_attr(m, sizeof *body, IFA_ADDRESS, &len);
	if (!ip || (len != 4 && len != 16) || a->n == sizeof a->found / sizeof *a->found)
		return 0;
	struct net_ip *to = &a->found[a->n];
	*to = (struct net_ip){.len = (uint8_t)len, .prefix = body->ifa_prefixlen};
	memcpy(to->bytes, ip, len);
	a->n += !is_loopbacks_own(to);
	return 0;
}

static int flush(int fd, int index)
{
	struct addresses a;
	struct netlink_request r;
	do {
		a = (struct addresses){.index = index};
		netlink_begin(&r, RTM_GETADDR, 0, &(struct ifaddrmsg){0}, sizeof(struct ifaddrmsg));
		int n = netlink_dump(fd, &r, note_address, &a);
		if (n < 0)
			return n;
		for (size_t i = 0; i < a.n; i++) {
			n = change_address(fd, RTM_DELADDR, 0, index, &a.found[i]);
			if (n < 0 && n != -EADDRNOTAVAIL) /* went with its primary */
				return n;
		}
	} while (a.n == sizeof a.found / sizeof *a.found);
	return 0;
}

static int add_route(int fd, int index, const struct net_route *route)
{
	struct netlink_request r;
	struct rtmsg body = {
		.rtm_family = (uint8_t)family(&route->to),
		.rtm_dst_len = route->to.prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = route->via.len || route->to.len == 16 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	netlink_begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof body);
	if (route->to.prefix > 0)
		netlink_put(&r, RTA_DST, route->to.bytes, route->to.len);
	if (route->via.len)
		netlink_put(&r, RTA_GATEWAY, route->via.bytes, route->via.len);
	netlink_put_u32(&r, RTA_OIF, (uint32_t)index);
	return netlink_talk(fd, &r);
}

/* ---- all of it ---- */

/* Down and without addresses, all before the first is named anew: two may swap their names. */
static int clear_interface(struct apply *a, size_t i)
{
	const struct net_interface *want = &a->plan->interfaces[i];
	const struct found *found = &a->of[i];
	char between[IFNAMSIZ];
	int r = found->index == LO ? 0 : set_up(a->fd, found->index, false);
	if (r == 0)
		r = flush(a->fd, found->index);
	if (r < 0 || strcmp(found->was, want->name) == 0)
		return r;
	snprintf(between, sizeof between, "tn%d", found->index);
	return set_name(a->fd, found->index, between);
}

static int name_interface(struct apply *a, size_t i)
{
	const struct net_interface *want = &a->plan->interfaces[i];
	return strcmp(a->of[i].was, want->name) == 0 ? 0 : set_name(a->fd, a->of[i].index, want->name);
}

static int each_interface(struct apply *a, int (*change)(struct apply *, size_t), const char *what,
			  struct err *e)
{
	for (size_t i = 0; i < a->plan->n_interfaces; i++) {
		int r = change(a, i);
		if (r < 0)
			return err_sys(e, step, -r, "%s: %s", a->plan->interfaces[i].name, what);
	}
	return 0;
}

static int give_mtu(struct apply *a, size_t i)
{
	uint32_t mtu = a->plan->interfaces[i].mtu;
	return mtu ? set_mtu(a->fd, a->of[i].index, mtu) : 0;
}

static int take_up(struct apply *a, size_t i)
{
	return set_up(a->fd, a->of[i].index, true);
}

static int give_addresses(struct apply *a, size_t i)
{
	const struct net_interface *want = &a->plan->interfaces[i];
	int r = 0;
	for (size_t k = 0; k < want->n_addresses && r == 0; k++)
		r = change_address(a->fd, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, a->of[i].index,
				   &want->addresses[k]);
	return r;
}

static int set_all(struct apply *a, struct err *e)
{
	int r = each_interface(a, clear_interface, "cannot be cleared", e);
	if (r == 0)
		r = each_interface(a, name_interface, "cannot be named so", e);
	if (r == 0)
		r = each_interface(a, give_mtu, "mtu", e);
	if (r == 0)
		r = each_interface(a, take_up, "cannot be taken up", e);
	if (r == 0)
		r = each_interface(a, give_addresses, "address", e);
	for (size_t i = 0; i < a->plan->n_routes && r == 0; i++) {
		const struct net_route *route = &a->plan->routes[i];
		r = add_route(a->fd, a->of[route->interface].index, route);
		if (r < 0)
			err_sys(e, step, -r, "%s: route %zu", a->plan->interfaces[route->interface].name, i);
	}
	return r;
}

/* As far as it goes. */
static void undo(struct apply *a)
{
	for (size_t i = 0; i < a->plan->n_interfaces; i++)
		clear_interface(a, i);
	for (size_t i = 0; i < a->plan->n_interfaces; i++)
		if (a->of[i].index != LO)
			set_name(a->fd, a->of[i].index, a->of[i].was);
}

int net_apply(const struct net_plan *p, struct err *e)
{
	struct apply a = {.plan = p};
	_cleanup_close_ int fd = netlink_open(0);
	if (fd < 0)
		return err_sys(e, step, -fd, "netlink");
	a.fd = fd;
	int r = set_up(fd, LO, true);
	if (r < 0)
		return err_sys(e, step, -r, "lo cannot be taken up");
	r = find_all(&a, e);
	if (r == 0 && (r = set_all(&a, e)) < 0)
		undo(&a);
	return r;
}
