#include "guest/net/net.h"

#include <string.h>

#include "guest/take.h"

#define MTU_MIN 68    /* RFC 791 */
#define MTU_MAX 65536 /* that of lo */

/* clang-format off */
#define FIELDS(op) { \
	[NET_INTERFACES] = op ".network.interfaces", \
	[NET_NAME] = op ".network.interfaces.name", \
	[NET_MAC] = op ".network.interfaces.mac", \
	[NET_MTU] = op ".network.interfaces.mtu", \
	[NET_ADDRESSES] = op ".network.interfaces.addresses", \
	[NET_IP] = op ".network.interfaces.addresses.ip", \
	[NET_PREFIX] = op ".network.interfaces.addresses.prefix", \
	[NET_ROUTES] = op ".network.routes", \
	[NET_DESTINATION] = op ".network.routes.destination", \
	[NET_ROUTE_PREFIX] = op ".network.routes.prefix", \
	[NET_GATEWAY] = op ".network.routes.gateway", \
	[NET_ROUTE_INTERFACE] = op ".network.routes.interface", \
}
/* clang-format on */
const char *const net_fields_configure[NET_FIELDS] = FIELDS("configure");
const char *const net_fields_resume[NET_FIELDS] = FIELDS("resume");

static int take_ip(struct net_ip *ip, const ProtobufCBinaryData *in, const char *field, struct fault *f)
{
	if (in->len != 4 && in->len != 16)
		return fault_invalid(f, field, "is %zu bytes, not 4 or 16", in->len);
	ip->len = (uint8_t)in->len;
	memcpy(ip->bytes, in->data, in->len);
	return 0;
}

static int take_prefix(struct net_ip *ip, uint32_t prefix, const char *field, struct fault *f)
{
	if (prefix > ip->len * 8U)
		return fault_invalid(f, field, "%u bits of %u", prefix, ip->len * 8U);
	ip->prefix = (uint8_t)prefix;
	return 0;
}

static int take_interface(struct net_plan *p, const Tenon__Interface *req,
			  const char *const fields[NET_FIELDS], struct fault *f)
{
	struct net_interface *i = &p->interfaces[p->n_interfaces];
	*i = (struct net_interface){.by_mac = req->mac.len > 0, .mtu = req->mtu};
	int r = take_name(i->name, sizeof i->name, &req->name, fields[NET_NAME], f);
	if (r < 0)
		return r;
	if (i->by_mac && req->mac.len != NET_MAC_SIZE)
		return fault_invalid(f, fields[NET_MAC], "is %zu bytes, not %d", req->mac.len, NET_MAC_SIZE);
	static const uint8_t zero[NET_MAC_SIZE];
	if (i->by_mac)
		memcpy(i->mac, req->mac.data, NET_MAC_SIZE);
	if (i->by_mac && memcmp(i->mac, zero, sizeof zero) == 0)
		return fault_invalid(f, fields[NET_MAC], "is zero, as lo's");
	for (size_t k = 0; k < p->n_interfaces; k++) {
		const struct net_interface *other = &p->interfaces[k];
		if (strcmp(other->name, i->name) == 0)
			return fault_invalid(f, fields[NET_NAME], "%s is named twice", i->name);
		if (i->by_mac && other->by_mac && memcmp(other->mac, i->mac, NET_MAC_SIZE) == 0)
			return fault_invalid(f, fields[NET_MAC], "%s and %s have the same", other->name,
					     i->name);
	}
	if (req->mtu != 0 && (req->mtu < MTU_MIN || req->mtu > MTU_MAX))
		return fault_invalid(f, fields[NET_MTU], "%u is not within %d and %d", req->mtu, MTU_MIN,
				     MTU_MAX);
	if (req->n_addresses > NET_ADDRESSES_MAX)
		return fault_exhausted(f, fields[NET_ADDRESSES], "%zu on %s; %d at most", req->n_addresses,
				       i->name, NET_ADDRESSES_MAX);
	for (size_t k = 0; k < req->n_addresses; k++) {
		r = take_ip(&i->addresses[k], &req->addresses[k]->ip, fields[NET_IP], f);
		if (r == 0)
			r = take_prefix(&i->addresses[k], req->addresses[k]->prefix, fields[NET_PREFIX], f);
		if (r < 0)
			return r;
	}
	i->n_addresses = req->n_addresses;
	p->n_interfaces++;
	return 0;
}

/* The bits behind the prefix are to be zero: the kernel would refuse them without a word on which. */
static bool has_host_bits(const struct net_ip *ip)
{
	for (unsigned bit = ip->prefix; bit < ip->len * 8U; bit++)
		if (ip->bytes[bit / 8] & 0x80 >> bit % 8)
			return true;
	return false;
}

static bool same_destination(const struct net_ip *a, const struct net_ip *b)
{
	return a->len == b->len && a->prefix == b->prefix && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static int take_route(struct net_plan *p, const Tenon__Route *req, const char *const fields[NET_FIELDS],
		      struct fault *f)
{
	struct net_route *route = &p->routes[p->n_routes];
	*route = (struct net_route){0};
	int r = 0;
	if (req->gateway.len > 0)
		r = take_ip(&route->via, &req->gateway, fields[NET_GATEWAY], f);
	if (r == 0 && req->destination.len > 0)
		r = take_ip(&route->to, &req->destination, fields[NET_DESTINATION], f);
	else if (r == 0 && route->via.len == 0)
		r = fault_invalid(f, fields[NET_GATEWAY], "is missing: the default route has one");
	else
		route->to.len = route->via.len;
	if (r == 0)
		r = take_prefix(&route->to, req->prefix, fields[NET_ROUTE_PREFIX], f);
	if (r < 0)
		return r;
	if (has_host_bits(&route->to))
		return fault_invalid(f, fields[NET_DESTINATION], "has bits behind its prefix of %u",
				     req->prefix);
	if (req->destination.len == 0 && req->prefix != 0)
		return fault_invalid(f, fields[NET_ROUTE_PREFIX], "%u bits of no destination", req->prefix);
	if (route->via.len != 0 && route->via.len != route->to.len)
		return fault_invalid(f, fields[NET_GATEWAY], "is not of the destination's family");
	for (size_t k = 0; k < p->n_routes; k++)
		if (same_destination(&p->routes[k].to, &route->to))
			return fault_invalid(f, fields[NET_DESTINATION], "routes %zu and %zu go the same way",
					     k, p->n_routes);

	char name[IFNAMSIZ];
	r = take_name(name, sizeof name, &req->interface, fields[NET_ROUTE_INTERFACE], f);
	if (r < 0)
		return r;
	for (route->interface = 0; route->interface < p->n_interfaces; route->interface++)
		if (strcmp(p->interfaces[route->interface].name, name) == 0) {
			p->n_routes++;
			return 0;
		}
	return fault_invalid(f, fields[NET_ROUTE_INTERFACE], "%s is none of the request's interfaces", name);
}

int net_take(struct net_plan *p, const Tenon__Network *req, const char *const fields[NET_FIELDS],
	     struct fault *f)
{
	p->n_interfaces = p->n_routes = 0;
	if (!req)
		return 0;
	if (req->n_interfaces > NET_INTERFACES_MAX)
		return fault_exhausted(f, fields[NET_INTERFACES], "%zu; %d at most", req->n_interfaces,
				       NET_INTERFACES_MAX);
	if (req->n_routes > NET_ROUTES_MAX)
		return fault_exhausted(f, fields[NET_ROUTES], "%zu; %d at most", req->n_routes,
				       NET_ROUTES_MAX);
	int r = 0;
	for (size_t i = 0; i < req->n_interfaces && r == 0; i++)
		r = take_interface(p, req->interfaces[i], fields, f);
	for (size_t i = 0; i < req->n_routes && r == 0; i++)
		r = take_route(p, req->routes[i], fields, f);
	return r;
}
