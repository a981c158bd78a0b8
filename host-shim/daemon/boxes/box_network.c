/* A box's network as the box itself is told of it. What it is connected to is host-shim/net/. */
#include <string.h>

#include "box.h"
#include "host-shim/net/addresses.h"

#define LOCALHOST "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
#define BYTES(array)                 \
	{                            \
		sizeof(array), array \
	}

static uint8_t guest[] = {NET_GUEST}, gateway[] = {NET_GATEWAY};
static uint8_t guest6[] = {NET_GUEST6}, gateway6[] = {NET_GATEWAY6};
static uint8_t name[] = NET_INTERFACE;

static Tenon__IpAddress address = {.base = PROTOBUF_C_MESSAGE_INIT(&tenon__ip_address__descriptor),
				   .ip = BYTES(guest),
				   .prefix = NET_PREFIX};
static Tenon__IpAddress address6 = {.base = PROTOBUF_C_MESSAGE_INIT(&tenon__ip_address__descriptor),
				    .ip = BYTES(guest6),
				    .prefix = NET_PREFIX6};
static Tenon__IpAddress *addresses[] = {&address, &address6};

static Tenon__Interface card = {.base = PROTOBUF_C_MESSAGE_INIT(&tenon__interface__descriptor),
				.name = {sizeof name - 1, name},
				.n_addresses = 2,
				.addresses = addresses,
				.mtu = NET_MTU};
static Tenon__Interface *cards[] = {&card};

static Tenon__Route route = {.base = PROTOBUF_C_MESSAGE_INIT(&tenon__route__descriptor),
			     .gateway = BYTES(gateway),
			     .interface = {sizeof name - 1, name}};
static Tenon__Route route6 = {.base = PROTOBUF_C_MESSAGE_INIT(&tenon__route__descriptor),
			      .gateway = BYTES(gateway6),
			      .interface = {sizeof name - 1, name}};
static Tenon__Route *routes[] = {&route, &route6};

static Tenon__Network network = {.base = PROTOBUF_C_MESSAGE_INIT(&tenon__network__descriptor),
				 .n_interfaces = 1,
				 .interfaces = cards,
				 .n_routes = 2,
				 .routes = routes};

void box_fill_network(const struct box *b, Tenon__Configure *request, char hosts[BOX_HOSTS_SIZE])
{
	bool connected = b->row.settings.outbound;
	/* Its own name has an address without a network too: programs look it up, and would wait. */
	int n = snprintf(hosts, BOX_HOSTS_SIZE, LOCALHOST "%s %.*s\n",
			 connected ? NET_GUEST_TEXT : "127.0.1.1", (int)request->hostname.len,
			 (const char *)request->hostname.data);
	request->hosts = (ProtobufCBinaryData){(size_t)n, (uint8_t *)hosts};
	if (!connected)
		return;
	const char *resolv_conf = b->boxes->config.resolv_conf;
	request->resolv_conf = (ProtobufCBinaryData){strlen(resolv_conf), (uint8_t *)resolv_conf};
	request->network = &network;
}
