/* The virtio-vsock packet header (virtio 1.2, §5.10.6) and its constants. All fields little endian. */
#pragma once

#include <endian.h>
#include <stdint.h>

#define VSOCK_HOST_CID 2
#define VSOCK_TYPE_STREAM 1

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

/* Flags of SHUTDOWN, from the sender's point of view. */
enum {
	VSOCK_SHUT_RECEIVE = 1, /* receives no more */
	VSOCK_SHUT_SEND = 2,    /* sends no more */
	VSOCK_SHUT_BOTH = 3,
};

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* payload bytes */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc; /* the sender's receive window, bytes */
	uint32_t fwd_cnt;   /* bytes the sender's reader has taken, mod 2^32 */
} __attribute__((packed));

#define VSOCK_HDR_SIZE 44
_Static_assert(sizeof(struct vsock_hdr) == VSOCK_HDR_SIZE, "the header is 44 bytes on the wire");
_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "headers are used as they lie in memory");
