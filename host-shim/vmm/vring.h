/* The device's side of one split virtqueue (virtio 1.2, §2.7), over memory that the guest controls.
 * Indices and descriptors are loaded once, then checked, then used. Whatever the ring holds, every
 * function here returns after a bounded amount of work and touches no byte outside the memory table.
 * A ring that breaks the rules is an error: the caller gives the device up, as §2.1.2 allows. */
#pragma once

#include "memtable.h"
#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VRING_SIZE_MAX 1024
#define VRING_IOV_MAX 256

struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* Where the three parts lie, in QEMU's address space (SET_VRING_ADDR). */
struct vring_addr {
	uint64_t desc, avail, used;
};

struct vring {
	unsigned num; /* entries, a power of two; 0: not set */
	struct vring_addr addr;
	struct vring_desc *desc; /* NULL: not mapped */
	uint16_t *avail;         /* flags, idx, ring[num], used_event */
	uint16_t *used;          /* flags, idx, {u32 id, u32 len}[num], avail_event */
	uint16_t last_avail;     /* next entry to take */
	uint16_t used_idx;       /* entries given back; the guest's copy is written, never read */
	uint16_t signalled;      /* used_idx at the last notification decision */
	bool signalled_valid;
	bool event_idx, indirect; /* negotiated features */
};

/* One request: device-readable buffers first, then device-writable ones. */
struct vring_chain {
	uint16_t head;
	unsigned n_out, n_in; /* entries of iov */
	size_t out_len, in_len;
	struct iovec iov[VRING_IOV_MAX];
};

void vring_init(struct vring *vr);

/* Entries: a power of two up to VRING_SIZE_MAX, or -EINVAL. */
int vring_set_size(struct vring *vr, unsigned num, struct err *e);

/* Maps the three parts at vr->addr; again after each change of the table. -EINVAL if a part is
 * misaligned (16, 2 and 4 bytes) or not inside one region. */
int vring_map(struct vring *vr, const struct memtable *mt, struct err *e);

/* Sets both indices: buffers are given back in the order they were taken, so the two agree whenever
 * the ring is at rest. */
void vring_set_base(struct vring *vr, uint16_t base);

/* Looks at the next available chain without taking it. 1: *chain is filled; 0: none; -EPROTO: the ring
 * is broken (index too far ahead, head out of range, loop, bad flags, address outside memory, ...). */
int vring_peek(const struct vring *vr, const struct memtable *mt, struct vring_chain *chain, struct err *e);

/* Takes the chain last seen by vring_peek and gives it back with `written` bytes in its writable part. */
void vring_complete(struct vring *vr, const struct vring_chain *chain, uint32_t written);

/* Asks for a kick when the next chain comes. True if one came meanwhile: look again. */
bool vring_arm(struct vring *vr);

/* Whether the guest wants a notification for what was completed since the last call. */
bool vring_should_notify(struct vring *vr);
