#include "gate.h"

#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "addresses.h"

#define ETHERNET 14
#define ARP 28
#define IPV4 20
#define IPV6 40
#define PORTS 4 /* where both lie in TCP and UDP alike */
#define DNS 53

static const uint8_t guest4[] = {NET_GUEST}, gateway4[] = {NET_GATEWAY}, resolver4[] = {NET_RESOLVER};
static const uint8_t guest6[] = {NET_GUEST6}, gateway6[] = {NET_GATEWAY6}, resolver6[] = {NET_RESOLVER6};

static bool is(const uint8_t *address, const uint8_t *other, size_t len)
{
	return memcmp(address, other, len) == 0;
}

static unsigned read16(const uint8_t *p)
{
	return (unsigned)(p[0] << 8 | p[1]);
}

static bool is_dns(const uint8_t *transport)
{
	return read16(transport + 2) == DNS;
}

static bool passes_arp(const uint8_t *p, size_t len)
{
	static const uint8_t ethernet_ipv4[] = {0, 1, 8, 0, 6, 4};
	return len >= ARP && is(p, ethernet_ipv4, sizeof ethernet_ipv4);
}

/* ---- IPv4 ---- */

static bool is_elsewhere4(const uint8_t *to)
{
	return to[0] != 0 && to[0] != 127 && to[0] < 224 && !(to[0] == 169 && to[1] == 254) &&
	       !is(to, gateway4, NET_PREFIX / 8);
}

static bool passes_ipv4(const uint8_t *p, size_t len)
{
	if (len < IPV4 + PORTS || p[0] != 0x45) /* version, and a header without options */
		return false;
	size_t total = read16(p + 2);
	bool is_fragment = read16(p + 6) & 0x3fff;
	const uint8_t *from = p + 12, *to = p + 16, *body = p + IPV4;
	if (total < IPV4 + PORTS || total > len || is_fragment || !is(from, guest4, 4))
		return false;
	switch (p[9]) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return is_elsewhere4(to) || (is(to, resolver4, 4) && is_dns(body));
	case IPPROTO_ICMP:
		return body[0] == ICMP_ECHO &&
		       (is_elsewhere4(to) || is(to, gateway4, 4) || is(to, resolver4, 4));
	default:
		return false;
	}
}

/* ---- IPv6 ---- */

static bool is_elsewhere6(const uint8_t *to)
{
	return (to[0] & 0xe0) == 0x20 || (to[0] & 0xfe) == 0xfc;
}

/* fe80::/10, ff02::/16, and the box's own network. */
static bool is_neighbour6(const uint8_t *to)
{
	return (to[0] == 0xfe && (to[1] & 0xc0) == 0x80) || (to[0] == 0xff && to[1] == 0x02) ||
	       is(to, gateway6, NET_PREFIX6 / 8);
}

static bool passes_icmp6(uint8_t type, const uint8_t *from, const uint8_t *to)
{
	if (type == ND_NEIGHBOR_SOLICIT || type == ND_NEIGHBOR_ADVERT)
		return is_neighbour6(to);
	return type == ICMP6_ECHO_REQUEST && is(from, guest6, 16) &&
	       (is_elsewhere6(to) || is(to, gateway6, 16) || is(to, resolver6, 16));
}

static bool passes_ipv6(const uint8_t *p, size_t len)
{
	if (len < IPV6 + PORTS || p[0] >> 4 != 6)
		return false;
	size_t payload = read16(p + 4);
	const uint8_t *from = p + 8, *to = p + 24, *body = p + IPV6;
	if (payload < PORTS || payload > len - IPV6)
		return false;
	switch (p[6]) { /* an extension header, a fragment's among them, is none of these */
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return is(from, guest6, 16) && (is_elsewhere6(to) || (is(to, resolver6, 16) && is_dns(body)));
	case IPPROTO_ICMPV6:
		return passes_icmp6(body[0], from, to);
	default:
		return false;
	}
}

bool gate_passes(const uint8_t *frame, size_t len)
{
	if (len < ETHERNET)
		return false;
	const uint8_t *p = frame + ETHERNET;
	len -= ETHERNET;
	switch (read16(frame + 12)) {
	case ETHERTYPE_ARP:
		return passes_arp(p, len);
	case ETHERTYPE_IP:
		return passes_ipv4(p, len);
	case ETHERTYPE_IPV6:
		return passes_ipv6(p, len);
	default:
		return false;
	}
}
