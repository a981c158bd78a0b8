#include "digest.h"

#include <nettle/base16.h>

void digest_init(struct digest *d)
{
	sha256_init(&d->ctx);
	d->size = 0;
}

void digest_add(struct digest *d, const void *bytes, size_t n)
{
	sha256_update(&d->ctx, n, bytes);
	d->size += n;
}

void digest_end(struct digest *d, char out[65])
{
	uint8_t hash[SHA256_DIGEST_SIZE];
	sha256_digest(&d->ctx, sizeof hash, hash);
	base16_encode_update(out, sizeof hash, hash);
	out[64] = '\0';
}
