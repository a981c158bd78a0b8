#include "host-shim/daemon/link/unpack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

struct budget {
	size_t left;
	bool over, empty;
};

static void *budget_alloc(void *arg, size_t size)
{
	struct budget *b = arg;
	if (size > b->left) {
		b->over = true;
		return NULL;
	}
	b->left -= size;
	/* free_unpacked(m, NULL) frees with free(3), so malloc(3) it is. */
	void *p = malloc(size);
	if (!p)
		b->empty = true;
	return p;
}

static void budget_free(void *arg, void *p)
{
	(void)arg;
	free(p);
}

ProtobufCMessage *unpack_bounded(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
				 size_t max, struct err *e)
{
	struct budget budget = {.left = max};
	ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
	ProtobufCMessage *m = protobuf_c_message_unpack(type, &allocator, len, data);
	/* A message that lost a part to the budget must not pass for a whole one. */
	if (m && (budget.over || budget.empty)) {
		protobuf_c_message_free_unpacked(m, NULL);
		m = NULL;
	}
	if (!m && budget.empty)
		err_set(e, "unpack", ENOMEM, "no memory for a message");
	else if (!m && budget.over)
		err_set(e, "unpack", EPROTO, "a message that takes over %zu bytes of memory", max);
	else if (!m)
		err_set(e, "unpack", EPROTO, "a message that is no %s", type->name);
	return m;
}
