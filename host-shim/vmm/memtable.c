#include "memtable.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096u

/* [addr, addr + len) inside [start, start + size), without ever forming a sum that can overflow. */
static bool within(uint64_t start, uint64_t size, uint64_t addr, uint64_t len)
{
	return addr >= start && addr - start <= size && len <= size - (addr - start);
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a < b ? b - a < a_size : a - b < b_size;
}

void memtable_init(struct memtable *mt)
{
	mt->n = 0;
}

void memtable_finish(struct memtable *mt)
{
	for (unsigned i = 0; i < mt->n; i++)
		munmap(mt->region[i].host, mt->region[i].at.size);
	mt->n = 0;
}

static int check_region(const struct memtable_region *r, int fd, struct err *e)
{
	if (r->size == 0 || r->size % PAGE || r->mmap_offset % PAGE)
		return err_set(e, "mem_table", EINVAL,
			       "region of %#llx bytes at offset %#llx is not whole pages",
			       (unsigned long long)r->size, (unsigned long long)r->mmap_offset);
	if (r->guest_addr > UINT64_MAX - r->size || r->user_addr > UINT64_MAX - r->size ||
	    r->mmap_offset > (uint64_t)INT64_MAX - r->size)
		return err_set(e, "mem_table", EINVAL, "region wraps around the address space");

	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "mem_table", errno, "fstat of a memory region");
	if (!within(0, (uint64_t)st.st_size, r->mmap_offset, r->size))
		return err_set(e, "mem_table", EINVAL, "region reaches beyond the end of its file");

	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return err_set(e, "mem_table", EINVAL,
			       "region's file is not a memfd sealed against shrinking");
	return 0;
}

int memtable_set(struct memtable *mt, const struct memtable_region *regions, const int *fds, unsigned n,
		 struct err *e)
{
	if (n == 0 || n > MEMTABLE_REGIONS_MAX)
		return err_set(e, "mem_table", EINVAL, "%u memory regions; 1 to %d are possible", n,
			       MEMTABLE_REGIONS_MAX);

	struct memtable next = {0};
	int r = 0;
	for (unsigned i = 0; i < n && r == 0; i++) {
		r = check_region(&regions[i], fds[i], e);
		for (unsigned k = 0; k < i && r == 0; k++)
			if (overlap(regions[k].guest_addr, regions[k].size, regions[i].guest_addr,
				    regions[i].size) ||
			    overlap(regions[k].user_addr, regions[k].size, regions[i].user_addr,
				    regions[i].size))
				r = err_set(e, "mem_table", EINVAL, "memory regions %u and %u overlap", k, i);
		if (r < 0)
			break;
		void *p = mmap(NULL, regions[i].size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			       fds[i], (off_t)regions[i].mmap_offset);
		if (p == MAP_FAILED) {
			r = err_sys(e, "mem_table", errno, "mmap of a memory region");
			break;
		}
		next.region[next.n].at = regions[i];
		next.region[next.n++].host = p;
	}
	if (r < 0) {
		memtable_finish(&next);
		return r;
	}
	memtable_finish(mt);
	*mt = next;
	return 0;
}

void *memtable_from_user(const struct memtable *mt, uint64_t user_addr, uint64_t len)
{
	for (unsigned i = 0; i < mt->n; i++) {
		const struct memtable_region *r = &mt->region[i].at;
		if (within(r->user_addr, r->size, user_addr, len))
			return mt->region[i].host + (user_addr - r->user_addr);
	}
	return NULL;
}

int memtable_translate(const struct memtable *mt, uint64_t addr, uint32_t len, struct iovec *iov,
		       unsigned max)
{
	unsigned used = 0;
	while (len > 0) {
		unsigned i = 0;
		while (i < mt->n && !within(mt->region[i].at.guest_addr, mt->region[i].at.size, addr, 1))
			i++;
		if (i == mt->n)
			return -EFAULT;
		if (used == max)
			return -E2BIG;
		uint64_t offset = addr - mt->region[i].at.guest_addr;
		uint64_t here = mt->region[i].at.size - offset;
		if (here > len)
			here = len;
		iov[used++] = (struct iovec){.iov_base = mt->region[i].host + offset, .iov_len = here};
		addr += here;
		len -= (uint32_t)here;
	}
	return (int)used;
}
