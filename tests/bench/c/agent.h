/* The first two things that a host says to an agent (proto/WIRE.md), as the load programs say them. */
#pragma once

#include "proto/frame.h"
#include "proto/message.h"
#include "proto/tenon.pb-c.h"

#define AGENT_MESSAGE_MAX 256

static inline size_t agent_put_hello(uint8_t buf[AGENT_MESSAGE_MAX], Tenon__Role role, uint64_t epoch)
{
	Tenon__Hello h = TENON__HELLO__INIT;
	h.role = role;
	h.host_epoch = epoch;
	h.features = WIRE_FEATURE_ANSWER_LATE | WIRE_FEATURE_CREDIT_WANTED; /* as tenond's */
	size_t n = FRAME_HELLO_PREFIX + tenon__hello__get_packed_size(&h);
	frame_put_header(buf, &(struct frame){.len = (uint32_t)n, .type = FRAME_HELLO});
	frame_put_hello_prefix(buf + FRAME_HEADER_SIZE);
	tenon__hello__pack(&h, buf + FRAME_HEADER_SIZE + FRAME_HELLO_PREFIX);
	return FRAME_HEADER_SIZE + n;
}

/* A box without disks: the place where the agent is. */
static inline size_t agent_put_configure(uint8_t buf[AGENT_MESSAGE_MAX], uint32_t stream)
{
	Tenon__InitramfsRoot initramfs = TENON__INITRAMFS_ROOT__INIT;
	Tenon__Root root = TENON__ROOT__INIT;
	root.kind_case = TENON__ROOT__KIND_INITRAMFS;
	root.initramfs = &initramfs;
	Tenon__Configure c = TENON__CONFIGURE__INIT;
	c.root = &root;
	ProtobufCBinaryData path = {sizeof "PATH=/usr/bin:/bin" - 1, (uint8_t *)"PATH=/usr/bin:/bin"};
	c.n_env = 1;
	c.env = &path;
	Tenon__Request r = TENON__REQUEST__INIT;
	r.op_case = TENON__REQUEST__OP_CONFIGURE;
	r.configure = &c;
	size_t len = tenon__request__get_packed_size(&r), size = message_wire_size(len);
	tenon__request__pack(&r, buf + size - len);
	message_put_frames(buf, len, stream, FRAME_REQ);
	return size;
}
