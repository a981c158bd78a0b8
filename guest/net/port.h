/* Connect: a tunnel to a TCP port of the box (WIRE.md §6). */
#pragma once

#include "guest/bulk/bulk.h"

bulk_op port_connect;
