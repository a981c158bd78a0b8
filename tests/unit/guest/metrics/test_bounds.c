/* The largest answers there can be fit the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/loadavg.h"
#include "guest/metrics/metrics.h"
#include "guest/metrics/processes.h"

static uint8_t bytes[4096];

/* Every number of a message at its widest. */
static void fill(ProtobufCMessage *m)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *d = &m->descriptor->fields[i];
		void *at = (uint8_t *)m + d->offset;
		if (d->label == PROTOBUF_C_LABEL_REPEATED)
			continue;
		if (d->type == PROTOBUF_C_TYPE_UINT64)
			memset(at, 0xff, sizeof(uint64_t));
		else if (d->type == PROTOBUF_C_TYPE_UINT32)
			memset(at, 0xff, sizeof(uint32_t));
		else if (d->type == PROTOBUF_C_TYPE_BOOL)
			*(protobuf_c_boolean *)at = 1;
	}
}

static void metrics(void **state)
{
	(void)state;
	static Tenon__ExecUse *execs[EXEC_ROWS];
	static Tenon__DiskUse *disks[METRICS_DISKS];
	static Tenon__NetworkUse *networks[METRICS_NETWORKS];
	uint32_t load[LOADAVG_TERMS] = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
	Tenon__ExecUse exec = TENON__EXEC_USE__INIT;
	Tenon__DiskUse disk = TENON__DISK_USE__INIT;
	Tenon__NetworkUse network = TENON__NETWORK_USE__INIT;
	Tenon__CpuTimes cpu = TENON__CPU_TIMES__INIT;
	Tenon__MemoryUse memory = TENON__MEMORY_USE__INIT;
	Tenon__Pressure pressure = TENON__PRESSURE__INIT;
	Tenon__FilesystemUse root = TENON__FILESYSTEM_USE__INIT;
	Tenon__AgentUse agent = TENON__AGENT_USE__INIT;
	Tenon__BootTimes boot = TENON__BOOT_TIMES__INIT;
	Tenon__Metrics m = TENON__METRICS__INIT;
	Tenon__BulkResponse r = TENON__BULK_RESPONSE__INIT;
	ProtobufCMessage *all[] = {&exec.base,     &disk.base, &network.base, &cpu.base,  &memory.base,
				   &pressure.base, &root.base, &agent.base,   &boot.base, &m.base};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		fill(all[i]);
	exec.id = (ProtobufCBinaryData){EXEC_ID_SIZE, bytes};
	disk.name = (ProtobufCBinaryData){31, bytes};    /* DISK_NAME_LEN of linux/blkdev.h */
	network.name = (ProtobufCBinaryData){15, bytes}; /* IFNAMSIZ */
	agent.version = (char *)AGENT_VERSION;
	for (size_t i = 0; i < EXEC_ROWS; i++)
		execs[i] = &exec;
	for (size_t i = 0; i < METRICS_DISKS; i++)
		disks[i] = &disk;
	for (size_t i = 0; i < METRICS_NETWORKS; i++)
		networks[i] = &network;
	m.cpu = &cpu;
	m.memory = &memory;
	m.cpu_pressure = m.memory_pressure = m.io_pressure = &pressure;
	m.root = &root;
	m.agent = &agent;
	m.boot = &boot;
	m.load_milli = load;
	m.n_load_milli = LOADAVG_TERMS;
	m.execs = execs;
	m.n_execs = EXEC_ROWS;
	m.disks = disks;
	m.n_disks = METRICS_DISKS;
	m.networks = networks;
	m.n_networks = METRICS_NETWORKS;
	r.result_case = TENON__BULK_RESPONSE__RESULT_METRICS;
	r.metrics = &m;
	size_t size = tenon__bulk_response__get_packed_size(&r);
	assert_in_range(size, EXEC_ROWS * 100, MESSAGE_FROM_AGENT_MAX);
}

static void a_process(void **state)
{
	(void)state;
	Tenon__ProcessInfo p = TENON__PROCESS_INFO__INIT;
	fill(&p.base);
	p.name = (ProtobufCBinaryData){PROCESSES_NAME, bytes};
	p.command = (ProtobufCBinaryData){PROCESSES_COMMAND, bytes};
	p.exec_id = (ProtobufCBinaryData){EXEC_ID_SIZE, bytes};
	size_t size = tenon__process_info__get_packed_size(&p) + 4; /* its key and length */
	assert_in_range(size, PROCESSES_COMMAND, PROCESSES_PACKED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(metrics), cmocka_unit_test(a_process)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
