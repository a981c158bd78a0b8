/* Any bytes in any pieces come out as they went in, and at most three are ever held back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/rest/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct utf8_hold h = {0};
	uint8_t *out = malloc(len + 3), *frame = malloc(len + 3);
	size_t total = 0;
	for (size_t at = 0; at < len;) {
		size_t n = 1 + data[at] % 9;
		if (n > len - at)
			n = len - at;
		size_t got = utf8_feed(&h, data + at, n, frame);
		if (h.len > 3)
			abort();
		memcpy(out + total, frame, got);
		total += got;
		at += n;
	}
	total += utf8_flush(&h, out + total);
	if (total != len || (len && memcmp(out, data, len) != 0))
		abort();
	free(out);
	free(frame);
	return 0;
}
