/* What processes of the box put into /proc by their names and arguments, and the rest of what is read there:
 * any text is taken, and nothing that comes out of one leads outside of it. */
#include <stdlib.h>
#include <string.h>

#include "guest/exec/cgroup.h"
#include "guest/metrics/cputimes.h"
#include "guest/metrics/diskstats.h"
#include "guest/metrics/loadavg.h"
#include "guest/metrics/meminfo.h"
#include "guest/metrics/netdev.h"
#include "guest/metrics/pressure.h"
#include "guest/proc.h"

static void inside(const char *text, size_t n, const ProtobufCBinaryData *name)
{
	const char *at = (const char *)name->data;
	if (name->len == 0 || at < text || at + name->len > text + n || memchr(at, '\n', name->len))
		abort();
}

static void walk_lists(const char *text, size_t n)
{
	const char *p = text;
	ProtobufCBinaryData disk = {0, NULL};
	Tenon__DiskUse d = TENON__DISK_USE__INIT;
	while (diskstats_next(&p, &disk, &d))
		inside(text, n, &d.name);
	p = text;
	Tenon__NetworkUse u = TENON__NETWORK_USE__INIT;
	while (netdev_next(&p, &u))
		inside(text, n, &u.name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';

	struct proc_stat s;
	if (proc_parse_stat(text, &s) == 0 && (s.ppid < 0 || s.session < 0 || s.state == ' '))
		abort();
	proc_parse_user(text);
	int cgroup = cgroup_parse(text);
	if (cgroup < -1 || cgroup >= CGROUP_POOL)
		abort();

	Tenon__CpuTimes t = TENON__CPU_TIMES__INIT;
	Tenon__MemoryUse m = TENON__MEMORY_USE__INIT;
	Tenon__Pressure p = TENON__PRESSURE__INIT;
	struct usage u = {0};
	uint32_t cpus, load[LOADAVG_TERMS];
	cputimes_parse(text, &t, &cpus);
	meminfo_parse(text, &m);
	pressure_parse(text, &p);
	loadavg_parse(text, load);
	usage_parse_cpu(text, &u);
	usage_parse_io(text, &u);
	walk_lists(text, size);
	free(text);
	return 0;
}
