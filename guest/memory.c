#include "guest/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/cleanup.h"

static void *map(size_t size, int flags, int fd)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

void *memory_reserve(size_t size)
{
	return map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

int memory_make_file(const char *name, size_t size)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, MEMORY_SEALS) < 0)
		return -errno;
	return steal_fd(&fd);
}

void *memory_reserve_shared(size_t size)
{
	_cleanup_close_ int fd = memory_make_file("shared", size);
	return fd < 0 ? NULL : map(size, MAP_SHARED, fd);
}

void memory_trim(void *p, size_t keep, size_t size)
{
	madvise((uint8_t *)p + keep, size - keep, MADV_DONTNEED);
}

void memory_trim_shared(void *p, size_t keep, size_t size)
{
	madvise((uint8_t *)p + keep, size - keep, MADV_REMOVE);
}

void bump_init(struct bump *b, void *mem, size_t cap)
{
	*b = (struct bump){.mem = mem, .cap = cap};
}

static void *take(struct bump *b, size_t size, size_t align)
{
	size_t at = (b->used + align - 1) / align * align;
	if (at > b->cap || size > b->cap - at) {
		b->overflowed = 1;
		return NULL;
	}
	b->used = at + size;
	return b->mem + at;
}

void *bump_alloc(struct bump *b, size_t size)
{
	return take(b, size, 16);
}

char *bump_string(struct bump *b, const void *bytes, size_t n)
{
	char *s = take(b, n + 1, 1);
	if (!s)
		return NULL;
	if (n > 0) /* nothing may come as NULL, which memcpy does not take */
		memcpy(s, bytes, n);
	s[n] = '\0';
	return s;
}
