/* The guest's memory, as QEMU describes it with SET_MEM_TABLE: a few regions, each mapped from an fd.
 * Addresses from the guest (and from QEMU) go through here and nowhere else. */
#pragma once

#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* The most regions a vhost-user message carries (vhost-user, "Multiple Memory regions description"). */
#define MEMTABLE_REGIONS_MAX 8

/* One region as on the wire; bytes and byte addresses. */
struct memtable_region {
	uint64_t guest_addr;  /* guest-physical */
	uint64_t size;        /* more than 0 */
	uint64_t user_addr;   /* in QEMU's address space: ring addresses use it */
	uint64_t mmap_offset; /* where the region begins in the fd, page-aligned */
};

struct memtable {
	unsigned n;
	struct {
		struct memtable_region at;
		uint8_t *host;
	} region[MEMTABLE_REGIONS_MAX];
};

void memtable_init(struct memtable *mt);

/* Unmaps everything. The fds were never kept. */
void memtable_finish(struct memtable *mt);

/* Replaces the table: validates all regions (sizes, overflow, overlap, alignment, the fd's length),
 * maps them shared, then unmaps the old ones. On error the old table stays as it was.
 * The fds stay the caller's. A memfd must be sealed against shrinking: a hole under a mapping would be
 * SIGBUS for this process. Errors: -EINVAL for what the peer got wrong, else from fstat(2)/mmap(2). */
int memtable_set(struct memtable *mt, const struct memtable_region *regions, const int *fds, unsigned n,
		 struct err *e);

/* Host pointer for [user_addr, user_addr + len) of QEMU's addresses, or NULL unless it lies in one region. */
void *memtable_from_user(const struct memtable *mt, uint64_t user_addr, uint64_t len);

/* Translates the guest-physical range [addr, addr + len) into at most max entries; a range over
 * adjoining regions becomes several. len 0 gives none. Returns the number of entries, -EFAULT if any
 * byte is outside the table, -E2BIG if max is too small. */
int memtable_translate(const struct memtable *mt, uint64_t addr, uint32_t len, struct iovec *iov,
		       unsigned max);
