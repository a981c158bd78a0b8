#include "guest/metrics/tcp.h"

#include "guest/scan.h"

bool tcp_parse(const char *text, Tenon__TcpUse *u)
{
	/* A line of names, and one of numbers. */
	const char *names = scan_after(text, "Tcp:"), *p = names ? scan_after(names, "Tcp:") : NULL;
	if (!p)
		return false;
	scan_skip(&p, 6); /* RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens */
	u->failed = scan_number(&p);
	scan_skip(&p, 1); /* EstabResets */
	u->established = scan_number(&p);
	return true;
}
