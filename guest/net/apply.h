/* Making the network what a plan says. */
#pragma once

#include "guest/net/net.h"
#include "proto/err.h"

/* Brings lo up, always. Then each interface of the plan: found (waiting up to 10 s for it to be probed),
 * taken down, named, freed of its addresses and with them of its routes, given its own and taken up; at last
 * the routes. lo stays up and keeps 127.0.0.1 and ::1. For a worker: it may block. -errno with *e, stage
 * "network", naming interface and errno; the interfaces then are down, without addresses, and have their old
 * names. */
int net_apply(const struct net_plan *p, struct err *e);
