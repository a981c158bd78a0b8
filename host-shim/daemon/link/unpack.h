/* Unpacking messages from a hostile sender: a few hundred bytes on the wire can ask protobuf-c for megabytes,
 * so what it may allocate is bounded. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "proto/err.h"

/* The message, to be freed with its free_unpacked(m, NULL); NULL with *e set: -EPROTO if it is malformed or
 * would take more than `max` bytes of memory, -ENOMEM if there are none. */
ProtobufCMessage *unpack_bounded(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
				 size_t max, struct err *e);
