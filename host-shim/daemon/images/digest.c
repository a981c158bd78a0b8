#include "digest.h"

#include <nettle/base16.h>
#include <string.h>

bool digest_is_valid(const char *text)
{
	size_t prefix = strlen(DIGEST_PREFIX);
	return strncmp(text, DIGEST_PREFIX, prefix) == 0 &&
	       strspn(text + prefix, "0123456789abcdef") == DIGEST_HEX_LENGTH && !text[DIGEST_LENGTH];
}

const char *digest_hex(const char *digest)
{
	return digest + strlen(DIGEST_PREFIX);
}

void digest_finish(struct sha256_ctx *c, char out[DIGEST_SIZE])
{
	uint8_t sum[SHA256_DIGEST_SIZE];
	sha256_digest(c, sizeof sum, sum);
	strcpy(out, DIGEST_PREFIX);
	base16_encode_update(out + strlen(DIGEST_PREFIX), sizeof sum, sum);
	out[DIGEST_LENGTH] = '\0';
}

void digest_of(const void *bytes, size_t len, char out[DIGEST_SIZE])
{
	struct sha256_ctx c;
	sha256_init(&c);
	sha256_update(&c, len, bytes);
	digest_finish(&c, out);
}
