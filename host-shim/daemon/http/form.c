/* application/x-www-form-urlencoded, as the URL standard reads it. */
#include <errno.h>
#include <string.h>

#include "http.h"
#include "router.h"

/* Decodes one name or value. Negative: malformed, or no room. */
static int decode(const char *from, size_t len, char *out, size_t cap)
{
	if (len >= cap)
		return -E2BIG;
	for (size_t i = 0; i < len; i++) {
		if (!from[i])
			return -EINVAL;
		out[i] = from[i] == '+' ? ' ' : from[i];
	}
	out[len] = '\0';
	return router_decode(out);
}

int http_form_value(const uint8_t *body, size_t len, const char *name, char *out, size_t cap)
{
	const char *at = (const char *)body, *end = at + len;
	int found = -ENOENT;
	while (at < end) {
		const char *stop = memchr(at, '&', (size_t)(end - at));
		stop = stop ? stop : end;
		const char *equals = memchr(at, '=', (size_t)(stop - at));
		const char *name_end = equals ? equals : stop;
		char shown[64];
		if (decode(at, (size_t)(name_end - at), shown, sizeof shown) == 0 &&
		    strcmp(shown, name) == 0) {
			if (found != -ENOENT)
				return -ENOENT;
			found = equals ? decode(equals + 1, (size_t)(stop - equals - 1), out, cap)
				       : decode("", 0, out, cap);
		}
		at = stop + 1;
	}
	return found;
}
