#include "guest/metrics/netdev.h"

#include <string.h>

#include "guest/scan.h"

static void take_counters(const char *p, Tenon__NetworkUse *u)
{
	u->received_bytes = scan_number(&p);
	u->received_packets = scan_number(&p);
	u->errors = scan_number(&p);
	u->dropped = scan_number(&p);
	scan_skip(&p, 4); /* fifo, frame, compressed, multicast */
	u->sent_bytes = scan_number(&p);
	u->sent_packets = scan_number(&p);
	u->errors = scan_sum(u->errors, scan_number(&p));
	u->dropped = scan_sum(u->dropped, scan_number(&p));
}

bool netdev_next(const char **text, Tenon__NetworkUse *u)
{
	while (**text) {
		const char *p = *text, *name;
		size_t n = scan_word(&p, &name);
		scan_next_line(text);
		/* A large counter may stand right behind the colon. The two lines of heading have none. */
		const char *colon = memchr(name, ':', n);
		if (!colon || colon == name)
			continue;
		u->name = (ProtobufCBinaryData){(size_t)(colon - name), (uint8_t *)name};
		take_counters(colon + 1, u);
		return true;
	}
	return false;
}
