#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define PATH_LIMIT 4095 /* of Linux */

static void refuse(struct http_request *r, const char *field, const char *message)
{
	http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", field), "%s %s", field,
			      message);
}

bool rest_where(struct http_request *r, Tenon__Where *at)
{
	const char *path = http_query(r, "path");
	tenon__where__init(at);
	if (!path || path[0] != '/') {
		refuse(r, "path", path ? "must be absolute" : "is missing");
		return false;
	}
	if (strlen(path) > PATH_LIMIT) {
		refuse(r, "path", "is longer than Linux has paths");
		return false;
	}
	at->path = (ProtobufCBinaryData){strlen(path), (uint8_t *)(uintptr_t)path};
	return true;
}

bool rest_query_int(struct http_request *r, const char *name, uint64_t min, uint64_t max, uint64_t fallback,
		    uint64_t *out)
{
	const char *text = http_query(r, name);
	char message[96];
	*out = fallback;
	if (!text || (rest_parse_position(text, out) && *out >= min && *out <= max))
		return true;
	snprintf(message, sizeof message, "must be an integer between %llu and %llu", (unsigned long long)min,
		 (unsigned long long)max);
	refuse(r, name, message);
	return false;
}
