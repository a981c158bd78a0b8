/* The network that every box sees: the same for all, since none reaches another's. It is the one of QEMU's
 * user network. tenon-net plays every part in it but the guest's; tenond tells the guest its own. */
#pragma once

#define NET_INTERFACE "eth0"

/* 10.0.2.0/24 */
#define NET_GUEST 10, 0, 2, 15
#define NET_GATEWAY 10, 0, 2, 2
#define NET_RESOLVER 10, 0, 2, 3
#define NET_PREFIX 24

/* fec0::/64: site-local, so that resolvers' address selection (RFC 6724) prefers IPv4 where a name has both,
 * and a host without IPv6 costs a box nothing. */
#define NET_PREFIX6_BYTES 0xfe, 0xc0, 0, 0, 0, 0, 0, 0
#define NET_GUEST6 NET_PREFIX6_BYTES, 0, 0, 0, 0, 0, 0, 0, 0x15
#define NET_GATEWAY6 NET_PREFIX6_BYTES, 0, 0, 0, 0, 0, 0, 0, 0x02
#define NET_RESOLVER6 NET_PREFIX6_BYTES, 0, 0, 0, 0, 0, 0, 0, 0x03
#define NET_PREFIX6 64

/* For /etc/resolv.conf and /etc/hosts. */
#define NET_GUEST_TEXT "10.0.2.15"
#define NET_RESOLVER_TEXT "10.0.2.3"
#define NET_RESOLVER6_TEXT "fec0::3"

/* The largest that libslirp takes. Its TCP ends there, so it limits no path outside, and a guest spends its
 * time per packet. */
#define NET_MTU 65520
