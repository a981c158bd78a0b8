#include "utf8.h"

#include <string.h>

/* How long the code point that begins with lead is; 0 if none does (Unicode 15, table 3-7). */
static size_t length_of(uint8_t lead)
{
	if (lead < 0x80)
		return 1;
	if (lead < 0xc2)
		return 0;
	if (lead < 0xe0)
		return 2;
	if (lead < 0xf0)
		return 3;
	return lead < 0xf5 ? 4 : 0;
}

/* The second byte's range is narrower after four leads: no overlong forms, no surrogates, nothing above
 * U+10FFFF. */
static int second_fits(uint8_t lead, uint8_t second)
{
	uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
	uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
	return second >= low && second <= high;
}

size_t utf8_incomplete(const uint8_t *data, size_t len)
{
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		const uint8_t *lead = data + len - back;
		if ((*lead & 0xc0) == 0x80)
			continue;
		if (length_of(*lead) <= back || (back > 1 && !second_fits(lead[0], lead[1])))
			return 0;
		return back;
	}
	return 0;
}

size_t utf8_feed(struct utf8_hold *h, const uint8_t *data, size_t len, uint8_t *out)
{
	size_t total = h->len + len;
	memcpy(out, h->bytes, h->len);
	memcpy(out + h->len, data, len);
	h->len = (unsigned)utf8_incomplete(out, total);
	total -= h->len;
	memcpy(h->bytes, out + total, h->len);
	return total;
}

size_t utf8_flush(struct utf8_hold *h, uint8_t *out)
{
	size_t len = h->len;
	memcpy(out, h->bytes, len);
	h->len = 0;
	return len;
}
