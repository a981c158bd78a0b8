#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

json_t *rest_base64(const void *bytes, size_t len)
{
	char *text = malloc(BASE64_ENCODE_RAW_LENGTH(len) + 1);
	if (!text)
		return NULL;
	base64_encode_raw(text, len, bytes);
	json_t *s = json_stringn(text, BASE64_ENCODE_RAW_LENGTH(len));
	free(text);
	return s;
}

json_t *rest_text(const void *bytes, size_t len)
{
	json_t *whole = json_stringn(len ? bytes : "", len); /* NULL if it is not UTF-8 */
	char *text = whole ? NULL : malloc(3 * len + 1);
	if (!text)
		return whole;
	size_t n = 0;
	for (const char *p = bytes, *end = p + len; p < end;) {
		size_t width = 1;
		json_t *part = NULL;
		for (; width <= 4 && width <= (size_t)(end - p) && !part; width++)
			part = json_stringn(p, width);
		if (part) {
			memcpy(text + n, p, width - 1);
			n += width - 1;
			p += width - 1;
			json_decref(part);
		} else {
			memcpy(text + n, "\xef\xbf\xbd", 3);
			n += 3;
			p++;
		}
	}
	whole = json_stringn(text, n);
	free(text);
	return whole;
}

void rest_set_text(json_t *object, const char *name, const void *bytes, size_t len)
{
	char exact[64];
	json_t *whole = json_stringn(len ? bytes : "", len);
	if (!whole) {
		snprintf(exact, sizeof exact, "%s_base64", name);
		json_object_set_new(object, exact, rest_base64(bytes, len));
		whole = rest_text(bytes, len);
	}
	json_object_set_new(object, name, whole);
}
