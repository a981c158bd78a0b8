/* SHA-256 and size of bytes that come in pieces. */
#pragma once

#include <nettle/sha2.h>
#include <stdint.h>

struct digest {
	struct sha256_ctx ctx;
	uint64_t size;
};
void digest_init(struct digest *d);
void digest_add(struct digest *d, const void *bytes, size_t n);
/* Lower-case hexadecimal digits. */
void digest_end(struct digest *d, char out[65]);
