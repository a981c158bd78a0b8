#include "handshake.h"

#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <string.h>
#include <strings.h>

bool handshake_key_is_valid(const char *key)
{
	if (strlen(key) != 24)
		return false;
	struct base64_decode_ctx c;
	uint8_t bytes[BASE64_DECODE_LENGTH(24)];
	size_t len = sizeof bytes;
	base64_decode_init(&c);
	return base64_decode_update(&c, &len, bytes, 24, key) && base64_decode_final(&c) && len == 16;
}

void handshake_accept(const char *key, char out[HANDSHAKE_ACCEPT_SIZE])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	struct sha1_ctx c;
	uint8_t digest[SHA1_DIGEST_SIZE];
	sha1_init(&c);
	sha1_update(&c, strlen(key), (const uint8_t *)key);
	sha1_update(&c, sizeof guid - 1, (const uint8_t *)guid);
	sha1_digest(&c, sizeof digest, digest);
	base64_encode_raw(out, sizeof digest, digest);
	out[HANDSHAKE_ACCEPT_SIZE - 1] = '\0';
}

bool handshake_has_token(const char *value, const char *token)
{
	size_t want = strlen(token);
	while (*value) {
		value += strspn(value, ", \t");
		size_t len = strcspn(value, ", \t");
		if (len == want && strncasecmp(value, token, len) == 0)
			return true;
		value += len;
	}
	return false;
}
