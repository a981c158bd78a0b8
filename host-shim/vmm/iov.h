/* Scatter lists that point into guest memory. The guest may change that memory at any time: what is
 * to be checked is copied out first, with iov_read(), and never looked at in place. */
#pragma once

#include <stddef.h>
#include <sys/uio.h>

/* The bytes that n entries cover. */
size_t iov_length(const struct iovec *iov, unsigned n);

/* Copies len bytes from the front of the list to dst, each byte fetched exactly once. Returns len, or
 * what the list holds if that is less. */
size_t iov_read(const struct iovec *iov, unsigned n, void *dst, size_t len);

/* Copies len bytes to the front of the list. Returns len, or what the list holds if that is less. */
size_t iov_write(const struct iovec *iov, unsigned n, const void *src, size_t len);

/* Drops the first bytes bytes: returns the first entry that is left and lowers *n. Entries are
 * changed in place. Dropping more than there is leaves an empty list. */
struct iovec *iov_skip(struct iovec *iov, unsigned *n, size_t bytes);

/* Cuts the list to at most bytes bytes and returns the new number of entries. */
unsigned iov_cap(struct iovec *iov, unsigned n, size_t bytes);
