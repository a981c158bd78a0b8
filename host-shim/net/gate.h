/* Which frames of the guest may reach the host's network stack.
 *
 * libslirp opens a socket of the host to whatever address a packet names, so a guest that makes its own
 * packets could reach services that trust the host's loopback: 127.0.0.1, 0.0.0.0, ::1, and the gateway's
 * address, behind which libslirp has the loopback too. Here is the list of what may pass instead. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Passes:
 * - ARP, and IPv6 neighbour discovery of the box's own network;
 * - TCP, UDP and ping from the guest's address to one that can be elsewhere: not this host (0/8, 127/8), not
 *   on its link only (169.254/16, where clouds keep their hosts' credentials), not multicast or reserved, not
 *   in the box's own network; of IPv6 global and unique local ones alone (2000::/3, fc00::/7);
 * - port 53 of the resolver's address; ping of it and of the gateway, which libslirp answers itself.
 * Fragments and IP options do not: the guest's MTU has room for all, and what libslirp would keep of them has
 * no bound. frame: an Ethernet frame, hostile. */
bool gate_passes(const uint8_t *frame, size_t len);
