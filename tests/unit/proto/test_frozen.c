/* Every number of the wire, pinned. A change here is a change of the protocol: the other side may be older or
 * newer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "proto/tenon.pb-c.h"
#include "proto/vmm.pb-c.h"

static void frame_numbers(void **state)
{
	(void)state;
	const struct {
		unsigned is, was;
	} pins[] = {
		{FRAME_HELLO, 1},
		{FRAME_REQ, 2},
		{FRAME_RSP, 3},
		{FRAME_DATA, 4},
		{FRAME_CREDIT, 5},
		{FRAME_GAP, 6},
		{FRAME_EOF, 7},
		{FRAME_RESET, 8},
		{FRAME_EVENT, 9},
		{FRAME_PING, 10},
		{FRAME_PONG, 11},
		{FRAME_GOAWAY, 12},
		{CHANNEL_STDIN, 0},
		{CHANNEL_STDOUT, 1},
		{CHANNEL_STDERR, 2},
		{FRAME_CHANNEL_MASK, 3},
		{FRAME_MORE, 0x40},
		{FRAME_OPTIONAL, 0x80},
		{FRAME_HEADER_SIZE, 12},
		{FRAME_PAYLOAD_MAX, 65536},
		{FRAME_DATA_PREFIX, 8},
		{FRAME_DATA_MAX, 65528},
		{FRAME_HELLO_MAX, 4096},
		{FRAME_HELLO_PREFIX, 8},
		{FRAME_ERROR_MAX, 1024},
		{MESSAGE_MAX, 1048576},
		{MESSAGE_FROM_AGENT_MAX, 262144},
		{WIRE_GENERATION, 1},
		{WIRE_PORT_AGENT, 1000},
		{WIRE_PORT_DOORBELL, 1001},
	};
	for (size_t i = 0; i < sizeof pins / sizeof *pins; i++)
		assert_int_equal(pins[i].is, pins[i].was);
	assert_true(WIRE_OFFSET_END == 4611686018427387904u);
}

/* "number name type" of each field; [] repeated, oneof: an arm. */
static const struct {
	const ProtobufCMessageDescriptor *type;
	const char *fields;
} messages[] = {
	{&tenon__hello__descriptor,
	 "1 role Role; 2 features uint64; 3 host_epoch uint64; 4 boot_id bytes; "
	 "5 clone_generation uint64; 6 configured bool; 7 version string; 8 boot BootTimes"},
	{&tenon__boot_times__descriptor,
	 "1 init_ns uint64; 2 mounted_ns uint64; 3 listening_ns uint64; 4 configured_ns uint64"},
	{&tenon__error__descriptor,
	 "1 code Code; 2 stage string; 3 errnum uint32; 4 field string; 5 message string"},
	{&tenon__request__descriptor,
	 "1 configure Configure oneof; 2 exec Exec oneof; 3 attach Attach oneof; "
	 "4 exec_ack ExecAck oneof; 5 signal Signal oneof; 6 list_execs ListExecs oneof; "
	 "7 shutdown Shutdown oneof"},
	{&tenon__response__descriptor,
	 "1 error Error; 2 configure ConfigureResult oneof; 3 exec ExecState oneof; "
	 "4 done Done oneof; 5 execs ExecList oneof"},
	{&tenon__done__descriptor, ""},
	{&tenon__configure__descriptor,
	 "1 hostname bytes; 2 root Root; 3 env bytes[]; 4 realtime_ns uint64; 5 seed bytes"},
	{&tenon__root__descriptor, "1 initramfs InitramfsRoot oneof; 2 overlay OverlayRoot oneof; "
				   "3 device DeviceRoot oneof"},
	{&tenon__initramfs_root__descriptor, ""},
	{&tenon__overlay_root__descriptor, "1 lower Device; 2 upper Device"},
	{&tenon__device_root__descriptor, "1 device Device"},
	{&tenon__device__descriptor, "1 name bytes; 2 fstype bytes"},
	{&tenon__configure_result__descriptor, "1 boot BootTimes"},
	{&tenon__exec__descriptor,
	 "1 id bytes; 2 argv bytes[]; 3 env bytes[]; 4 cwd bytes; 5 with_stdin bool; "
	 "6 timeout_ms uint32; 7 grace_ms uint32; 8 stdout_limit uint64; "
	 "9 stderr_limit uint64; 10 ring_policy RingPolicy"},
	{&tenon__attach__descriptor,
	 "1 id bytes; 2 stdout_end uint64; 3 stderr_end uint64; 4 stdout_limit uint64; "
	 "5 stderr_limit uint64"},
	{&tenon__exec_ack__descriptor, "1 id bytes"},
	{&tenon__signal__descriptor, "1 id bytes; 2 signo uint32; 3 target Target"},
	{&tenon__list_execs__descriptor, "1 after bytes; 2 max uint32"},
	{&tenon__exec_list__descriptor, "1 execs ExecState[]; 2 more bool"},
	{&tenon__shutdown__descriptor, "1 grace_ms uint32"},
	{&tenon__exec_state__descriptor,
	 "1 id bytes; 2 fresh bool; 3 pid uint32; 4 stdin_acked uint64; 5 stdin_limit uint64; "
	 "6 stdin_closed bool; 7 stdout_base uint64; 8 stdout_end uint64; "
	 "9 stderr_base uint64; 10 stderr_end uint64; 11 exit ExitRecord; 12 started_ns uint64"},
	{&tenon__exit_record__descriptor,
	 "1 code uint32; 2 signal uint32; 3 core_dumped bool; 4 timed_out bool; "
	 "5 oom_killed bool; 6 stdout_total uint64; 7 stderr_total uint64; "
	 "8 stdout_open bool; 9 stderr_open bool; 10 rusage Rusage; 11 ended_ns uint64; "
	 "12 duration_ns uint64"},
	{&tenon__rusage__descriptor,
	 "1 user_us uint64; 2 system_us uint64; 3 max_rss_kib uint64; 4 minor_faults uint64; "
	 "5 major_faults uint64"},
	{&tenon__event__descriptor, "1 ready Ready oneof; 2 exit ExitRecord oneof"},
	{&tenon__ready__descriptor, "1 boot_id bytes; 2 boot BootTimes"},
	{&tenon__vmm_request__descriptor,
	 "1 status VmmStatus oneof; 2 stop VmmStop oneof; 3 qmp VmmQmp oneof; "
	 "4 console VmmConsole oneof"},
	{&tenon__vmm_response__descriptor,
	 "1 error Error; 2 status VmmStatusResult oneof; 3 done Done oneof; "
	 "4 qmp VmmQmpResult oneof; 5 console VmmConsoleResult oneof"},
	{&tenon__vmm_status__descriptor, ""},
	{&tenon__vmm_status_result__descriptor,
	 "1 vmm_pid uint32; 2 vmm_start_ticks uint64; 3 qemu_pid uint32; 4 started_ns uint64; "
	 "5 qemu_state bytes; 6 connections uint32; 7 to_guest_bytes uint64; "
	 "8 from_guest_bytes uint64"},
	{&tenon__vmm_stop__descriptor, "1 deadline_ms uint32"},
	{&tenon__vmm_qmp__descriptor, "1 command bytes; 2 deadline_ms uint32"},
	{&tenon__vmm_qmp_result__descriptor, "1 reply bytes"},
	{&tenon__vmm_console__descriptor, "1 max_bytes uint32"},
	{&tenon__vmm_console_result__descriptor, "1 tail bytes; 2 end uint64"},
};

static const struct {
	const ProtobufCEnumDescriptor *type;
	const char *values;
} enums[] = {
	{&tenon__role__descriptor, "0 ROLE_UNSPECIFIED; 1 ROLE_MAIN; 2 ROLE_BULK; 3 ROLE_VMM"},
	{&tenon__code__descriptor,
	 "0 CODE_OK; 1 CODE_PROTOCOL; 2 CODE_UNSUPPORTED; 3 CODE_INVALID_ARGUMENT; "
	 "4 CODE_NOT_FOUND; 5 CODE_ALREADY_EXISTS; 6 CODE_NOT_CONFIGURED; 7 CODE_EXEC_FAILED; "
	 "8 CODE_RESOURCE_EXHAUSTED; 9 CODE_GONE; 10 CODE_FENCED; 11 CODE_DETACHED; "
	 "12 CODE_OUT_OF_RANGE; 13 CODE_SHUTTING_DOWN; 14 CODE_INTERNAL; 15 CODE_TIMEOUT"},
	{&tenon__ring_policy__descriptor, "0 RING_BLOCK; 1 RING_DROP_OLDEST"},
	{&tenon__target__descriptor, "0 TARGET_PROCESS; 1 TARGET_GROUP; 2 TARGET_SESSION; 3 TARGET_ALL"},
};

static const char *type_name(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_UINT32:
		return "uint32";
	case PROTOBUF_C_TYPE_UINT64:
		return "uint64";
	case PROTOBUF_C_TYPE_BOOL:
		return "bool";
	case PROTOBUF_C_TYPE_STRING:
		return "string";
	case PROTOBUF_C_TYPE_BYTES:
		return "bytes";
	case PROTOBUF_C_TYPE_ENUM:
		return ((const ProtobufCEnumDescriptor *)f->descriptor)->short_name;
	case PROTOBUF_C_TYPE_MESSAGE:
		return ((const ProtobufCMessageDescriptor *)f->descriptor)->short_name;
	default:
		return "?";
	}
}

static void message_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
		char text[2048] = "";
		size_t at = 0;
		for (unsigned k = 0; k < messages[i].type->n_fields; k++) {
			const ProtobufCFieldDescriptor *f = &messages[i].type->fields[k];
			at += (size_t)snprintf(text + at, sizeof text - at, "%s%u %s %s%s%s", k ? "; " : "",
					       f->id, f->name, type_name(f),
					       f->label == PROTOBUF_C_LABEL_REPEATED ? "[]" : "",
					       f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ? " oneof" : "");
		}
		assert_string_equal(text, messages[i].fields);
	}
}

static int by_value(const void *a, const void *b)
{
	return ((const ProtobufCEnumValue *)a)->value - ((const ProtobufCEnumValue *)b)->value;
}

static void enum_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof enums / sizeof *enums; i++) {
		ProtobufCEnumValue values[64];
		unsigned n = enums[i].type->n_values;
		assert_true(n <= 64);
		memcpy(values, enums[i].type->values, n * sizeof *values);
		qsort(values, n, sizeof *values, by_value);
		char text[2048] = "";
		size_t at = 0;
		for (unsigned k = 0; k < n; k++)
			at += (size_t)snprintf(text + at, sizeof text - at, "%s%d %s", k ? "; " : "",
					       values[k].value, values[k].name);
		assert_string_equal(text, enums[i].values);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_numbers),
		cmocka_unit_test(message_fields),
		cmocka_unit_test(enum_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
