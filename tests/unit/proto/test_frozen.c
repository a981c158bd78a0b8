/* Every number of the wire, pinned in frozen.txt. A change here is a change of the protocol: the other side
 * may be older or newer. What is new is added to that file by `TENON_FREEZE=1`, which writes what the
 * messages are now; a line that goes or changes in its diff breaks somebody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/bulk.pb-c.h"
#include "proto/frame.h"
#include "proto/handover.pb-c.h"
#include "proto/tenon.pb-c.h"
#include "proto/vmm.pb-c.h"

#define PINS "tests/unit/proto/frozen.txt"

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

/* What every other message is reached from. */
static const ProtobufCMessageDescriptor *const roots[] = {
	&tenon__hello__descriptor,         &tenon__error__descriptor,      &tenon__request__descriptor,
	&tenon__response__descriptor,      &tenon__event__descriptor,      &tenon__bulk_request__descriptor,
	&tenon__bulk_response__descriptor, &tenon__bulk_event__descriptor, &tenon__vmm_request__descriptor,
	&tenon__vmm_response__descriptor,  &tenon__handover__descriptor,
};

#define TYPES_MAX 256

struct listing {
	FILE *out;
	const void *seen[TYPES_MAX];
	size_t n;
};

/* False if it was met before. */
static int meet(struct listing *l, const void *descriptor)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->seen[i] == descriptor)
			return 0;
	assert_true(l->n < TYPES_MAX);
	l->seen[l->n++] = descriptor;
	return 1;
}

static const char *scalar_name(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_UINT32:
		return "uint32";
	case PROTOBUF_C_TYPE_SINT32:
		return "sint32";
	case PROTOBUF_C_TYPE_UINT64:
		return "uint64";
	case PROTOBUF_C_TYPE_SINT64:
		return "sint64";
	case PROTOBUF_C_TYPE_BOOL:
		return "bool";
	case PROTOBUF_C_TYPE_STRING:
		return "string";
	case PROTOBUF_C_TYPE_BYTES:
		return "bytes";
	default:
		return "?";
	}
}

static void list_enum(struct listing *l, const ProtobufCEnumDescriptor *d)
{
	if (!meet(l, d))
		return;
	fprintf(l->out, "enum %s\n", d->short_name);
	for (unsigned i = 0; i < d->n_values; i++)
		fprintf(l->out, "  %d %s\n", d->values[i].value, d->values[i].name);
}

static void list_message(struct listing *l, const ProtobufCMessageDescriptor *d)
{
	if (!meet(l, d))
		return;
	fprintf(l->out, "message %s\n", d->short_name);
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		const char *type = f->type == PROTOBUF_C_TYPE_MESSAGE
					   ? ((const ProtobufCMessageDescriptor *)f->descriptor)->short_name
				   : f->type == PROTOBUF_C_TYPE_ENUM
					   ? ((const ProtobufCEnumDescriptor *)f->descriptor)->short_name
					   : scalar_name(f->type);
		fprintf(l->out, "  %u %s %s%s%s\n", f->id, f->name, type,
			f->label == PROTOBUF_C_LABEL_REPEATED ? "[]" : "",
			f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ? " oneof" : "");
	}
	for (unsigned i = 0; i < d->n_fields; i++)
		if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			list_message(l, d->fields[i].descriptor);
		else if (d->fields[i].type == PROTOBUF_C_TYPE_ENUM)
			list_enum(l, d->fields[i].descriptor);
}

static char *read_file(const char *path)
{
	char *text = calloc(1, 65536);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(text, 1, 65535, f);
	assert_true(n > 0 && n < 65535);
	fclose(f);
	return text;
}

static void messages(void **state)
{
	(void)state;
	char *now = NULL;
	size_t len;
	struct listing l = {.out = open_memstream(&now, &len)};
	for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
		list_message(&l, roots[i]);
	fclose(l.out);
	if (getenv("TENON_FREEZE")) {
		FILE *f = fopen(PINS, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(now, 1, len, f), len);
		fclose(f);
	}
	char *was = read_file(PINS);
	assert_string_equal(now, was);
	free(now);
	free(was);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_numbers),
		cmocka_unit_test(messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
