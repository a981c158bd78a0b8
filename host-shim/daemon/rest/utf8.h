/* Cuts a byte stream into frames that end on UTF-8 boundaries, for clients that decode each frame on its own.
 * Bytes that are not UTF-8 pass as they are: only a code point that more bytes could still complete is held
 * back. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct utf8_hold {
	uint8_t bytes[3]; /* the beginning of one code point */
	unsigned len;
};

/* How many bytes at the end of data begin a code point that is not complete: 0 to 3. */
size_t utf8_incomplete(const uint8_t *data, size_t len);
/* Appends data to what was held and writes all but the new incomplete end to out; returns how much. out has
 * room for len + 3 bytes and does not overlap data. */
size_t utf8_feed(struct utf8_hold *h, const uint8_t *data, size_t len, uint8_t *out);
/* At the end of the stream: what is held, as it is (at most 3 bytes). */
size_t utf8_flush(struct utf8_hold *h, uint8_t *out);
