/* "sha256:" and 64 hex digits: what the OCI image specification calls a digest. Other algorithms are refused:
 * nobody uses them, and each would be one more thing to get wrong. */
#pragma once

#include <nettle/sha2.h>
#include <stdbool.h>

#define DIGEST_PREFIX "sha256:"
#define DIGEST_HEX_LENGTH 64
#define DIGEST_LENGTH (sizeof DIGEST_PREFIX - 1 + DIGEST_HEX_LENGTH)
#define DIGEST_SIZE (DIGEST_LENGTH + 1)

/* Lower case only, as the specification has it: one image must not have two names. */
bool digest_is_valid(const char *text);
/* The name of its file: what follows "sha256:". Of a valid one. */
const char *digest_hex(const char *digest);
/* Of what c was fed; c is as new afterwards. */
void digest_finish(struct sha256_ctx *c, char out[DIGEST_SIZE]);
void digest_of(const void *bytes, size_t len, char out[DIGEST_SIZE]);
