/* All that makes a request the same as another: method, path, query and body. */
#include <nettle/sha2.h>
#include <string.h>

#include "internal.h"

/* With its length in front: "ab", "c" is not "a", "bc". */
static void add(struct sha256_ctx *c, const void *bytes, size_t len)
{
	uint64_t wide = len;
	sha256_update(c, sizeof wide, (const uint8_t *)&wide);
	sha256_update(c, len, bytes);
}

static enum MHD_Result add_argument(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	add(cls, name, strlen(name));
	add(cls, value ? value : "", value ? strlen(value) : 0);
	return MHD_YES;
}

void http_fingerprint(const struct http_request *r, uint8_t out[32])
{
	const struct http_route *route = r->match.route;
	struct sha256_ctx c;
	size_t len;
	sha256_init(&c);
	add(&c, route->method, strlen(route->method));
	add(&c, route->path, strlen(route->path));
	for (unsigned i = 0; i < r->match.param_count; i++)
		add(&c, r->match.params[i].value, strlen(r->match.params[i].value));
	if (r->mhd)
		MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, add_argument, &c);
	const uint8_t *body = http_body(r, &len);
	add(&c, body, len);
	sha256_digest(&c, SHA256_DIGEST_SIZE, out);
}
