#include "guest/metrics/pressure.h"

#include "guest/scan.h"

static void take(const char *p, uint64_t *total_us, uint32_t *avg10_milli)
{
	if (!p)
		return;
	const char *avg10 = scan_pair(p, "avg10="), *total = scan_pair(p, "total=");
	if (avg10)
		*avg10_milli = scan_u32(scan_thousandths(&avg10));
	if (total)
		*total_us = scan_number(&total);
}

void pressure_parse(const char *text, Tenon__Pressure *p)
{
	take(scan_after(text, "some "), &p->some_us, &p->some_avg10_milli);
	take(scan_after(text, "full "), &p->full_us, &p->full_avg10_milli);
}
