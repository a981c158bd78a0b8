#include "guest/metrics/loadavg.h"

#include "guest/scan.h"

void loadavg_parse(const char *text, uint32_t milli[LOADAVG_TERMS])
{
	for (int i = 0; i < LOADAVG_TERMS; i++)
		milli[i] = scan_u32(scan_thousandths(&text));
}
