#include "guest/take.h"

#include <stdbool.h>
#include <string.h>

int take_name(char *out, size_t size, const ProtobufCBinaryData *in, const char *field, struct fault *f)
{
	if (in->len == 0 || in->len >= size)
		return fault_invalid(f, field, "is empty or longer than %zu bytes", size - 1);
	for (size_t i = 0; i < in->len; i++) {
		uint8_t c = in->data[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '-' || c == '_' || (c == '.' && i > 0);
		if (!ok)
			return fault_invalid(f, field, "holds byte 0x%02x", c);
	}
	memcpy(out, in->data, in->len);
	out[in->len] = '\0';
	return 0;
}

int take_string(char **out, struct bump *store, const ProtobufCBinaryData *in, size_t max, const char *field,
		struct fault *f)
{
	if (in->len > max)
		return fault_invalid(f, field, "is over %zu bytes", max);
	if (in->len > 0 && memchr(in->data, '\0', in->len))
		return fault_invalid(f, field, "holds a NUL byte");
	*out = bump_string(store, in->data, in->len);
	return *out ? 0 : fault_exhausted(f, field, "does not fit %zu bytes", store->cap);
}
