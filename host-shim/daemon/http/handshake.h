/* The arithmetic of the WebSocket opening handshake (RFC 6455 §4.2). */
#pragma once

#include <stdbool.h>

#define HANDSHAKE_ACCEPT_SIZE 29 /* base64 of 20 bytes, and NUL */

/* Whether a Sec-WebSocket-Key is base64 of 16 bytes. */
bool handshake_key_is_valid(const char *key);
/* Sec-WebSocket-Accept for a valid key. */
void handshake_accept(const char *key, char out[HANDSHAKE_ACCEPT_SIZE]);
/* Whether a comma-separated header value contains a token, whatever its case. */
bool handshake_has_token(const char *value, const char *token);
