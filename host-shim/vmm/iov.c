#include "iov.h"

#include <stdint.h>
#include <string.h>

/* The compiler may otherwise load a field of the copy from guest memory again: after this it has to
 * take the other side's memory for changed, and the copy for the only source. */
static void forget_source(void *copy)
{
	__asm__ volatile("" : : "r"(copy) : "memory");
}

size_t iov_length(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;
	for (unsigned i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

size_t iov_read(const struct iovec *iov, unsigned n, void *dst, size_t len)
{
	size_t done = 0;
	for (unsigned i = 0; i < n && done < len; i++) {
		size_t part = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;
		memcpy((uint8_t *)dst + done, iov[i].iov_base, part);
		done += part;
	}
	forget_source(dst);
	return done;
}

size_t iov_write(const struct iovec *iov, unsigned n, const void *src, size_t len)
{
	size_t done = 0;
	for (unsigned i = 0; i < n && done < len; i++) {
		size_t part = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;
		memcpy(iov[i].iov_base, (const uint8_t *)src + done, part);
		done += part;
	}
	return done;
}

struct iovec *iov_skip(struct iovec *iov, unsigned *n, size_t bytes)
{
	while (*n > 0 && bytes >= iov->iov_len) {
		bytes -= iov->iov_len;
		iov++;
		(*n)--;
	}
	if (*n > 0) {
		iov->iov_base = (uint8_t *)iov->iov_base + bytes;
		iov->iov_len -= bytes;
	}
	return iov;
}

unsigned iov_cap(struct iovec *iov, unsigned n, size_t bytes)
{
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].iov_len >= bytes) {
			iov[i].iov_len = bytes;
			return bytes > 0 ? i + 1 : i;
		}
		bytes -= iov[i].iov_len;
	}
	return n;
}
