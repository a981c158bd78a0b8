/* Memory reserved at start and touched only when used: the agent's only allocations. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Zeroed, page-aligned address space without huge pages, so that one byte costs one page. NULL if refused. */
void *memory_reserve(size_t size);

/* A file in memory, zeroed, sparse and sealed in its size: the box's root can open what we have open, and a
 * shorter file would fault us. Close-on-exec. A descriptor or -errno. */
#define MEMORY_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
int memory_make_file(const char *name, size_t size);

/* memory_reserve, but shared with forked children: what they write there is seen here. */
void *memory_reserve_shared(size_t size);

/* Gives back the pages of [p + keep, p + size); they read as zero afterwards. p and keep are page-aligned. */
void memory_trim(void *p, size_t keep, size_t size);
void memory_trim_shared(void *p, size_t keep, size_t size); /* of memory_reserve_shared */

/* A bump allocator over a reserved block. It remembers an overflow, for callers in whose hands NULL means
 * something else. */
struct bump {
	uint8_t *mem;
	size_t cap, used;
	int overflowed;
};

void bump_init(struct bump *b, void *mem, size_t cap);
/* 16-byte aligned, not cleared; NULL when full. */
void *bump_alloc(struct bump *b, size_t size);
/* n bytes and a NUL; NULL when full. */
char *bump_string(struct bump *b, const void *bytes, size_t n);
