#include <string.h>

#include "internal.h"

/* ---- GET …/metrics: BoxLite's names first, and beside them all that the agent counts ---- */

/* Counters of 64 bits, as far as JSON clients have integers for them. */
static json_t *number(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static void set(json_t *o, const char *name, uint64_t n)
{
	json_object_set_new(o, name, number(n));
}

static void put_cpu(json_t *o, const Tenon__CpuTimes *m)
{
	if (!m)
		return;
	json_t *cpu = json_object();
	set(cpu, "user_us", m->user_us);
	set(cpu, "system_us", m->system_us);
	set(cpu, "idle_us", m->idle_us);
	set(cpu, "iowait_us", m->iowait_us);
	set(cpu, "steal_us", m->steal_us);
	json_object_set_new(o, "cpu", cpu);
	double busy = (double)m->user_us + (double)m->system_us;
	double all = busy + (double)m->idle_us + (double)m->iowait_us + (double)m->steal_us;
	json_object_set_new(o, "cpu_percent", json_real(all > 0 ? 100 * busy / all : 0));
}

static void put_memory(json_t *o, const Tenon__MemoryUse *m)
{
	if (!m)
		return;
	json_t *memory = json_object();
	set(memory, "total_bytes", m->total);
	set(memory, "available_bytes", m->available);
	set(memory, "free_bytes", m->free);
	set(memory, "cached_bytes", m->cached);
	set(memory, "swap_total_bytes", m->swap_total);
	set(memory, "swap_free_bytes", m->swap_free);
	json_object_set_new(o, "memory", memory);
	set(o, "memory_bytes", m->total > m->available ? m->total - m->available : 0);
}

static void put_pressure(json_t *pressure, const char *name, const Tenon__Pressure *m)
{
	if (!m)
		return;
	json_t *o = json_object();
	set(o, "some_us", m->some_us);
	set(o, "full_us", m->full_us);
	json_object_set_new(o, "some_avg10", json_real(m->some_avg10_milli / 1000.0));
	json_object_set_new(o, "full_avg10", json_real(m->full_avg10_milli / 1000.0));
	json_object_set_new(pressure, name, o);
}

static void put_disks(json_t *o, const Tenon__Metrics *m)
{
	json_t *disks = json_array();
	for (size_t i = 0; i < m->n_disks; i++) {
		const Tenon__DiskUse *d = m->disks[i];
		json_t *disk = json_object();
		rest_set_text(disk, "name", d->name.data, d->name.len);
		set(disk, "read_bytes", d->read_bytes);
		set(disk, "written_bytes", d->written_bytes);
		set(disk, "reads", d->reads);
		set(disk, "writes", d->writes);
		json_array_append_new(disks, disk);
	}
	json_object_set_new(o, "disks", disks);
}

/* BoxLite counts from the host's side: what it sent is what the box received. */
static void put_networks(json_t *o, const Tenon__Metrics *m)
{
	json_t *networks = json_array();
	uint64_t received = 0, sent = 0;
	for (size_t i = 0; i < m->n_networks; i++) {
		const Tenon__NetworkUse *n = m->networks[i];
		json_t *network = json_object();
		rest_set_text(network, "name", n->name.data, n->name.len);
		set(network, "received_bytes", n->received_bytes);
		set(network, "sent_bytes", n->sent_bytes);
		set(network, "received_packets", n->received_packets);
		set(network, "sent_packets", n->sent_packets);
		set(network, "dropped", n->dropped);
		set(network, "errors", n->errors);
		json_array_append_new(networks, network);
		bool loopback = n->name.len == 2 && memcmp(n->name.data, "lo", 2) == 0;
		received += loopback ? 0 : n->received_bytes;
		sent += loopback ? 0 : n->sent_bytes;
	}
	json_object_set_new(o, "networks", networks);
	set(o, "network_bytes_sent", received);
	set(o, "network_bytes_received", sent);
}

static void put_tcp(json_t *o, const Tenon__TcpUse *m)
{
	if (!m)
		return;
	set(o, "network_tcp_connections", m->established);
	set(o, "network_tcp_errors", m->failed);
}

static void put_filesystem(json_t *o, const Tenon__FilesystemUse *m)
{
	if (!m)
		return;
	json_t *root = json_object();
	set(root, "total_bytes", m->total_bytes);
	set(root, "free_bytes", m->free_bytes);
	set(root, "total_inodes", m->total_inodes);
	set(root, "free_inodes", m->free_inodes);
	json_object_set_new(o, "filesystem", root);
}

static void put_id(json_t *o, const ProtobufCBinaryData *id)
{
	char hex[33];
	if (id->len != 16)
		return;
	for (unsigned i = 0; i < 16; i++)
		snprintf(hex + 2 * (size_t)i, 3, "%02x", id->data[i]);
	json_object_set_new(o, "execution_id", json_string(hex));
}

static void put_executions(json_t *o, const Tenon__Metrics *m)
{
	json_t *executions = json_array();
	for (size_t i = 0; i < m->n_execs; i++) {
		const Tenon__ExecUse *x = m->execs[i];
		json_t *use = json_object();
		put_id(use, &x->id);
		set(use, "cpu_user_us", x->user_us);
		set(use, "cpu_system_us", x->system_us);
		set(use, "memory_bytes", x->memory_bytes);
		set(use, "memory_peak_bytes", x->memory_peak_bytes);
		set(use, "tasks", x->processes);
		set(use, "oom_kills", x->oom_kills);
		set(use, "read_bytes", x->read_bytes);
		set(use, "written_bytes", x->written_bytes);
		set(use, "throttled_us", x->throttled_us);
		json_array_append_new(executions, use);
	}
	json_object_set_new(o, "executions", executions);
}

static void put_boot(json_t *o, const Tenon__BootTimes *m)
{
	if (!m)
		return;
	json_t *boot = json_object_get(o, "boot_timing");
	set(boot, "guest_init_ms", m->init_ns / 1000000);
	set(boot, "guest_listening_ms", m->listening_ns / 1000000);
}

static void on_metrics(struct http_request *r, const Tenon__BulkResponse *answer, json_t *o)
{
	if (answer->result_case != TENON__BULK_RESPONSE__RESULT_METRICS) {
		http_reply_error(r, HTTP_INTERNAL, "the agent answered something else");
		return;
	}
	const Tenon__Metrics *m = answer->metrics;
	json_t *pressure = json_object(), *load = json_array();
	put_cpu(o, m->cpu);
	put_memory(o, m->memory);
	put_networks(o, m);
	put_tcp(o, m->tcp);
	put_boot(o, m->boot);
	set(o, "uptime_ms", m->uptime_ns / 1000000);
	set(o, "cpus", m->cpus);
	put_pressure(pressure, "cpu", m->cpu_pressure);
	put_pressure(pressure, "memory", m->memory_pressure);
	put_pressure(pressure, "io", m->io_pressure);
	json_object_set_new(o, "pressure", pressure);
	for (size_t i = 0; i < m->n_load_milli; i++)
		json_array_append_new(load, json_real(m->load_milli[i] / 1000.0));
	json_object_set_new(o, "load", load);
	set(o, "processes", m->processes);
	set(o, "processes_running", m->processes_running);
	put_disks(o, m);
	put_filesystem(o, m->root);
	put_executions(o, m);
	set(o, "oom_kills", m->oom_kills);
	http_reply_json(r, 200, json_incref(o));
}

static json_t *ms_or_null(uint64_t ms)
{
	return ms ? json_integer((json_int_t)ms) : json_null();
}

/* What tenond knows by itself, of a box that does not run too. */
static json_t *describe(const struct box_info *i)
{
	json_t *timing =
		json_pack("{s:o, s:o, s:o}", "total_create_ms", ms_or_null(i->boot_ms), "box_config_ms",
			  ms_or_null(i->prepare_ms), "guest_boot_ms", ms_or_null(i->guest_boot_ms));
	return json_pack("{s:I, s:I, s:I, s:I, s:o}", "commands_executed_total", (json_int_t)i->commands,
			 "exec_errors_total", (json_int_t)i->exec_errors, "bytes_sent_total",
			 (json_int_t)i->traffic.sent, "bytes_received_total", (json_int_t)i->traffic.received,
			 "boot_timing", timing);
}

void rest_box_metrics(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	struct box_info info;
	if (!b)
		return;
	box_get_info(b, &info);
	json_t *o = describe(&info);
	if (info.status != BOX_RUNNING) {
		http_reply_json(r, 200, o); /* every member is optional, and asking wakes no box */
		return;
	}
	Tenon__GetMetrics get = TENON__GET_METRICS__INIT;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_METRICS;
	req.metrics = &get;
	rest_bulk_call(r, b, &req, false, on_metrics, o);
}

/* ---- GET …/processes ---- */

/* Arguments, each with a NUL after it. */
static json_t *arguments(const ProtobufCBinaryData *command)
{
	json_t *list = json_array();
	const uint8_t *p = command->data, *end = p + command->len;
	while (p < end) {
		const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
		size_t len = (size_t)((nul ? nul : end) - p);
		json_array_append_new(list, rest_text(p, len));
		p += len + 1;
	}
	return list;
}

static void add_processes(json_t *object, const Tenon__BulkEvent *event)
{
	json_t *list = json_object_get(object, "processes");
	if (event->kind_case != TENON__BULK_EVENT__KIND_PROCESSES)
		return;
	for (size_t i = 0; i < event->processes->n_processes && json_array_size(list) < 32768; i++) {
		const Tenon__ProcessInfo *p = event->processes->processes[i];
		const char state[2] = {p->state > ' ' && p->state < 127 ? (char)p->state : '?', '\0'};
		json_t *o = json_object();
		set(o, "pid", p->pid);
		set(o, "ppid", p->ppid);
		set(o, "uid", p->uid);
		json_object_set_new(o, "state", json_string(state));
		rest_set_text(o, "name", p->name.data, p->name.len);
		json_object_set_new(o, "command", arguments(&p->command));
		json_object_set_new(o, "started_at", rest_time((int64_t)(p->started_ns / 1000000)));
		set(o, "cpu_user_us", p->user_us);
		set(o, "cpu_system_us", p->system_us);
		set(o, "memory_bytes", p->rss_bytes);
		set(o, "threads", p->threads);
		put_id(o, &p->exec_id);
		json_array_append_new(list, o);
	}
}

void rest_list_processes(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (!b)
		return;
	Tenon__ListProcesses list = TENON__LIST_PROCESSES__INIT;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_PROCESSES;
	req.processes = &list;
	rest_bulk_gather(r, b, &req, false, add_processes, json_pack("{s:[]}", "processes"));
}
