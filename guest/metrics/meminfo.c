#include "guest/metrics/meminfo.h"

#include "guest/scan.h"

static uint64_t bytes(const char *text, const char *key)
{
	return scan_times(scan_value(text, key, 0), 1024);
}

void meminfo_parse(const char *text, Tenon__MemoryUse *m)
{
	m->total = bytes(text, "MemTotal:");
	m->available = bytes(text, "MemAvailable:");
	m->free = bytes(text, "MemFree:");
	m->cached = bytes(text, "Cached:");
	m->swap_total = bytes(text, "SwapTotal:");
	m->swap_free = bytes(text, "SwapFree:");
}
