/* The box's network as a request describes it: copied and checked. */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/fault.h"

#define NET_INTERFACES_MAX 16
#define NET_ADDRESSES_MAX 16 /* on one interface */
#define NET_ROUTES_MAX 64
#define NET_MAC_SIZE 6

struct net_ip {
	uint8_t bytes[16];
	uint8_t len;    /* 4 or 16; 0: none */
	uint8_t prefix; /* bits */
};

struct net_interface {
	char name[IFNAMSIZ];
	uint8_t mac[NET_MAC_SIZE];
	bool by_mac;
	uint32_t mtu; /* 0: unchanged */
	struct net_ip addresses[NET_ADDRESSES_MAX];
	size_t n_addresses;
};

struct net_route {
	struct net_ip to;  /* len as the gateway's with prefix 0: the default route */
	struct net_ip via; /* len 0: on the link */
	size_t interface;  /* index of the plan's */
};

struct net_plan {
	struct net_interface interfaces[NET_INTERFACES_MAX];
	struct net_route routes[NET_ROUTES_MAX];
	size_t n_interfaces, n_routes;
};

/* The request's names for the fields at fault: of a Configure, or of a Resume. */
enum net_field {
	NET_INTERFACES,
	NET_NAME,
	NET_MAC,
	NET_MTU,
	NET_ADDRESSES,
	NET_IP,
	NET_PREFIX,
	NET_ROUTES,
	NET_DESTINATION,
	NET_ROUTE_PREFIX,
	NET_GATEWAY,
	NET_ROUTE_INTERFACE,
	NET_FIELDS,
};
extern const char *const net_fields_configure[NET_FIELDS], *const net_fields_resume[NET_FIELDS];

/* req NULL: nothing to do. Each route goes over an interface that the request names. */
int net_take(struct net_plan *p, const Tenon__Network *req, const char *const fields[NET_FIELDS],
	     struct fault *f);
