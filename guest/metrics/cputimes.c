#include "guest/metrics/cputimes.h"

#include <string.h>

#include "guest/scan.h"

static uint64_t ticks(const char **p)
{
	return scan_times(scan_number(p), CPUTIMES_TICK_US);
}

static void take_times(const char *p, Tenon__CpuTimes *t)
{
	t->user_us = ticks(&p);
	t->user_us = scan_sum(t->user_us, ticks(&p)); /* nice */
	t->system_us = ticks(&p);
	t->idle_us = ticks(&p);
	t->iowait_us = ticks(&p);
	t->system_us = scan_sum(t->system_us, ticks(&p)); /* irq */
	t->system_us = scan_sum(t->system_us, ticks(&p)); /* softirq */
	t->steal_us = ticks(&p);
}

void cputimes_parse(const char *text, Tenon__CpuTimes *t, uint32_t *cpus)
{
	*cpus = 0;
	do {
		if (strncmp(text, "cpu ", 4) == 0)
			take_times(text + 4, t);
		else if (strncmp(text, "cpu", 3) == 0)
			++*cpus;
	} while (scan_next_line(&text));
}
