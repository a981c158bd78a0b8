/* Which route a URL means. Pure: no request, no allocation. */
#pragma once

#include "http.h"

#define ROUTER_SEGMENTS 16
#define ROUTER_PARAMS 4

struct router_match {
	const struct http_route *route; /* NULL: none */
	const char *prefix;             /* the registered prefix that was taken off, "" if none */
	struct {
		const char *name; /* in the route's path, ends at '}' */
		size_t name_len;
		const char *value; /* in path, NUL-terminated */
	} params[ROUTER_PARAMS];
	unsigned param_count;
	char allow[64]; /* the methods that this path does have, if route is NULL: "GET, DELETE" */
};

enum router_result { ROUTER_FOUND, ROUTER_NO_PATH, ROUTER_NO_METHOD, ROUTER_NO_PREFIX, ROUTER_BAD_PATH };

/* Splits path (no query; is cut up and percent-decoded in place, and holds the parameters afterwards) and
 * finds the route. A first segment that is no route's first segment is a prefix: the longest registered one
 * wins. BAD_PATH: malformed percent-encoding, an encoded NUL, an empty segment, or too many segments. */
enum router_result router_find(const struct http_route *routes, size_t count, const char *const *prefixes,
			       const char *method, char *path, struct router_match *out);

/* Whether a first segment is a route's, or kept for one: no prefix may begin with it. */
bool router_is_reserved(const struct http_route *routes, size_t count, const char *segment);

/* Percent-decodes s in place; -EINVAL on a malformed triple or %00, s unchanged. */
int router_decode(char *s);
