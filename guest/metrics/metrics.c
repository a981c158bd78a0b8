#include "guest/metrics/metrics.h"

#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "guest/metrics/census.h"
#include "guest/metrics/cputimes.h"
#include "guest/metrics/diskstats.h"
#include "guest/metrics/loadavg.h"
#include "guest/metrics/meminfo.h"
#include "guest/metrics/netdev.h"
#include "guest/metrics/pressure.h"
#include "guest/metrics/tcp.h"
#include "guest/scan.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define TEXT_SIZE (256 * 1024)

/* The answer and what it points to. */
struct snapshot {
	Tenon__Metrics metrics;
	Tenon__CpuTimes cpu;
	Tenon__MemoryUse memory;
	Tenon__Pressure cpu_pressure, memory_pressure, io_pressure;
	uint32_t load[LOADAVG_TERMS];
	Tenon__FilesystemUse root;
	Tenon__TcpUse tcp;
	Tenon__AgentUse agent;
	Tenon__DiskUse disks[METRICS_DISKS], *disk_pointers[METRICS_DISKS];
	Tenon__NetworkUse networks[METRICS_NETWORKS], *network_pointers[METRICS_NETWORKS];
	Tenon__ExecUse execs[EXEC_ROWS], *exec_pointers[EXEC_ROWS];
	struct row_view views[EXEC_ROWS];
	char text[TEXT_SIZE], disk_text[TEXT_SIZE], network_text[TEXT_SIZE];
};

static const char *read_text(const struct bulk_context *ctx, const char *name, char text[TEXT_SIZE],
			     bool *cut)
{
	long n = scan_file(ctx->proc_fd, name, text, TEXT_SIZE);
	if (n < 0)
		text[0] = '\0';
	if (cut && n == TEXT_SIZE - 1)
		*cut = true;
	return text;
}

static void take_pressure(struct snapshot *s, const struct bulk_context *ctx, const char *name,
			  Tenon__Pressure *p, Tenon__Pressure **out)
{
	if (!*read_text(ctx, name, s->text, NULL))
		return;
	tenon__pressure__init(p);
	pressure_parse(s->text, p);
	*out = p;
}

static void take_machine(struct snapshot *s, const struct bulk_context *ctx)
{
	Tenon__Metrics *m = &s->metrics;
	uint32_t cpus;
	tenon__cpu_times__init(&s->cpu);
	cputimes_parse(read_text(ctx, "stat", s->text, NULL), &s->cpu, &cpus);
	m->cpu = &s->cpu;
	m->cpus = cpus;
	tenon__memory_use__init(&s->memory);
	meminfo_parse(read_text(ctx, "meminfo", s->text, NULL), &s->memory);
	m->memory = &s->memory;
	loadavg_parse(read_text(ctx, "loadavg", s->text, NULL), s->load);
	m->load_milli = s->load;
	m->n_load_milli = LOADAVG_TERMS;
	take_pressure(s, ctx, "pressure/cpu", &s->cpu_pressure, &m->cpu_pressure);
	take_pressure(s, ctx, "pressure/memory", &s->memory_pressure, &m->memory_pressure);
	take_pressure(s, ctx, "pressure/io", &s->io_pressure, &m->io_pressure);
}

static void take_disks(struct snapshot *s, const struct bulk_context *ctx)
{
	Tenon__Metrics *m = &s->metrics;
	bool cut = false;
	const char *p = read_text(ctx, "diskstats", s->disk_text, &cut);
	ProtobufCBinaryData disk = {0, NULL};
	for (;;) {
		Tenon__DiskUse d = TENON__DISK_USE__INIT;
		if (!diskstats_next(&p, &disk, &d))
			break;
		if (m->n_disks == METRICS_DISKS) {
			cut = true;
			break;
		}
		s->disks[m->n_disks] = d;
		s->disk_pointers[m->n_disks] = &s->disks[m->n_disks];
		m->n_disks++;
	}
	m->disks = s->disk_pointers;
	m->truncated = m->truncated || cut;
}

static void take_networks(struct snapshot *s, const struct bulk_context *ctx)
{
	Tenon__Metrics *m = &s->metrics;
	bool cut = false;
	const char *p = read_text(ctx, "net/dev", s->network_text, &cut);
	for (;;) {
		Tenon__NetworkUse u = TENON__NETWORK_USE__INIT;
		if (!netdev_next(&p, &u))
			break;
		if (m->n_networks == METRICS_NETWORKS) {
			cut = true;
			break;
		}
		s->networks[m->n_networks] = u;
		s->network_pointers[m->n_networks] = &s->networks[m->n_networks];
		m->n_networks++;
	}
	m->networks = s->network_pointers;
	m->truncated = m->truncated || cut;
	tenon__tcp_use__init(&s->tcp);
	if (tcp_parse(read_text(ctx, "net/snmp", s->text, NULL), &s->tcp))
		m->tcp = &s->tcp;
}

static void take_root(struct snapshot *s, const struct bulk_context *ctx)
{
	struct statvfs v;
	int r = ctx->upper_fd >= 0 ? fstatvfs(ctx->upper_fd, &v) : statvfs("/", &v);
	if (r < 0)
		return;
	tenon__filesystem_use__init(&s->root);
	s->root.total_bytes = scan_times(v.f_blocks, v.f_frsize);
	s->root.free_bytes = scan_times(v.f_bfree, v.f_frsize);
	s->root.total_inodes = v.f_files;
	s->root.free_inodes = v.f_ffree;
	s->metrics.root = &s->root;
}

/* And what of it a look at every process tells. */
static void take_agent(struct snapshot *s, const struct bulk_context *ctx)
{
	struct census c;
	census_take(&c, ctx);
	s->metrics.processes = c.processes;
	s->metrics.processes_running = c.running;
	tenon__agent_use__init(&s->agent);
	s->agent.rss_bytes = scan_times(c.agent_stat.rss_pages, (uint64_t)sysconf(_SC_PAGESIZE));
	s->agent.user_us = scan_times(c.agent_stat.user_ticks, CPUTIMES_TICK_US);
	s->agent.system_us = scan_times(c.agent_stat.system_ticks, CPUTIMES_TICK_US);
	s->agent.workers = c.workers;
	s->agent.version = (char *)AGENT_VERSION;
	s->agent.upgrades = ctx->identity->upgrades;
	s->metrics.agent = &s->agent;
	census_drop(&c);
}

static void take_exec(Tenon__ExecUse *u, const struct row_view *v, int dir)
{
	struct usage now;
	usage_read(dir, &now);
	const struct usage own = usage_since(&v->used_before, &now);
	u->user_us = own.user_us;
	u->system_us = own.system_us;
	u->throttled_us = own.throttled_us;
	u->read_bytes = own.read_bytes;
	u->written_bytes = own.written_bytes;
	u->oom_kills = own.oom_kills;
	u->memory_peak_bytes = own.memory_peak;
	u->memory_bytes = usage_read_number(dir, "memory.current");
	u->processes = scan_u32(usage_read_number(dir, "pids.current"));
}

static void take_execs(struct snapshot *s, const struct bulk_context *ctx, const ProtobufCBinaryData *only)
{
	Tenon__Metrics *m = &s->metrics;
	const struct exec_table *table = &ctx->execs->table;
	int n = rows_copy(table, s->views);
	for (int i = 0; i < n; i++) {
		const struct row_view *v = &s->views[i];
		if (only->len > 0 && memcmp(only->data, v->id, EXEC_ID_SIZE) != 0)
			continue;
		Tenon__ExecUse *u = &s->execs[m->n_execs];
		tenon__exec_use__init(u);
		u->id = (ProtobufCBinaryData){EXEC_ID_SIZE, (uint8_t *)v->id};
		_cleanup_close_ int dir = v->cgroup < 0 ? -1 : cgroup_open(&ctx->execs->cgroups, v->cgroup);
		if (dir >= 0)
			take_exec(u, v, dir);
		/* Its cgroup may be another execution's by now. */
		if (rows_stand(table, v))
			s->exec_pointers[m->n_execs++] = u;
	}
	m->execs = s->exec_pointers;
	if (ctx->execs->cgroups.root >= 0) {
		struct usage all;
		usage_read(ctx->execs->cgroups.root, &all);
		m->oom_kills = all.oom_kills;
	}
}

int metrics_get(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		struct fault *f)
{
	const ProtobufCBinaryData *only = &req->metrics->exec_id;
	if (only->len != 0 && only->len != EXEC_ID_SIZE)
		return fault_invalid(f, "metrics.exec_id", "is of %zu bytes, not %d", only->len,
				     EXEC_ID_SIZE);
	struct snapshot *s = bump_alloc(&ch->scratch, sizeof *s);
	if (!s)
		return fault_exhausted(f, NULL, "no room for the answer");
	tenon__metrics__init(&s->metrics);
	take_machine(s, ctx);
	take_disks(s, ctx);
	take_networks(s, ctx);
	take_root(s, ctx);
	take_agent(s, ctx);
	take_execs(s, ctx, only);
	s->metrics.boot = (Tenon__BootTimes *)&ctx->identity->times;
	s->metrics.realtime_ns = clock_ns(CLOCK_REALTIME);
	s->metrics.uptime_ns = clock_ns(CLOCK_BOOTTIME);
	Tenon__BulkResponse r = TENON__BULK_RESPONSE__INIT;
	r.result_case = TENON__BULK_RESPONSE__RESULT_METRICS;
	r.metrics = &s->metrics;
	return channel_answer(ch, &r);
}
