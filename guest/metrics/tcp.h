/* TCP's line of /proc/net/snmp, proc(5); its members are RFC 1213's, of both families. */
#pragma once

#include <stdbool.h>

#include "proto/bulk.pb-c.h"

/* False if the text has no such line. Pure. */
bool tcp_parse(const char *text, Tenon__TcpUse *u);
