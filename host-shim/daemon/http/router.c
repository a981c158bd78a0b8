#include "router.h"

#include <errno.h>
#include <string.h>

/* Names that later routes will use: never a tenant, so that adding a route takes nobody's URL away. */
static const char *const reserved[] = {
	"boxes",   "config", "me",        "api-keys", "volumes", "images",     "v1",
	"metrics", "oauth",  "snapshots", "healthz",  "exec",    "executions",
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The byte of "%41", -1 if there is none; a NUL is none. */
static int triple(const char *s)
{
	int high = hex_digit(s[1]);
	int low = high < 0 ? -1 : hex_digit(s[2]);
	return low < 0 || (high | low) == 0 ? -1 : high << 4 | low;
}

int router_decode(char *s)
{
	for (const char *p = s; *p; p++)
		if (*p == '%' && triple(p) < 0)
			return -EINVAL;
	char *to = s;
	for (const char *from = s; *from;) {
		size_t width = *from == '%' ? 3 : 1;
		*to++ = width == 3 ? (char)triple(from) : *from;
		from += width;
	}
	*to = '\0';
	return 0;
}

/* Cuts "/a/b" into segments; returns how many, or -EINVAL. One trailing slash is forgiven. */
static int split(char *path, char *segments[ROUTER_SEGMENTS])
{
	int n = 0;
	if (*path != '/')
		return -EINVAL;
	while (path && path[0] == '/' && path[1]) {
		char *start = path + 1;
		path = strchr(start, '/');
		if (n == ROUTER_SEGMENTS || path == start)
			return -EINVAL;
		segments[n++] = start;
		if (path && !path[1])
			*path = '\0';
	}
	for (int i = 1; i < n; i++)
		segments[i][-1] = '\0';
	for (int i = 0; i < n; i++)
		if (router_decode(segments[i]) < 0)
			return -EINVAL;
	return n;
}

/* How many segments the prefix covers if they begin with it, else 0. */
static int prefix_covers(const char *prefix, char *const *segments, int count)
{
	int n = 0;
	while (*prefix) {
		size_t len = strcspn(prefix, "/");
		if (n == count || strlen(segments[n]) != len || memcmp(segments[n], prefix, len) != 0)
			return 0;
		n++;
		prefix += len + (prefix[len] == '/');
	}
	return n;
}

bool router_is_reserved(const struct http_route *routes, size_t count, const char *segment)
{
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (strcmp(reserved[i], segment) == 0)
			return true;
	for (size_t i = 0; i < count; i++) {
		size_t len = strcspn(routes[i].path + 1, "/");
		if (strlen(segment) == len && memcmp(routes[i].path + 1, segment, len) == 0)
			return true;
	}
	return false;
}

/* Whether the segments fit the template; fills the parameters. */
static bool path_fits(const char *template, char *const *segments, int count, struct router_match *m)
{
	m->param_count = 0;
	for (int i = 0; i < count; i++) {
		if (*template ++ != '/')
			return false;
		size_t len = strcspn(template, "/");
		if (template[0] == '{') {
			m->params[m->param_count].name = template + 1;
			m->params[m->param_count].name_len = len - 2;
			m->params[m->param_count++].value = segments[i];
		} else if (strlen(segments[i]) != len || memcmp(template, segments[i], len) != 0) {
			return false;
		}
		template += len;
	}
	return *template == '\0';
}

static void allow_add(struct router_match *m, const char *method)
{
	size_t used = strlen(m->allow);
	if (used + strlen(method) + 3 > sizeof m->allow)
		return;
	if (used)
		strcat(m->allow, ", ");
	strcat(m->allow, method);
}

enum router_result router_find(const struct http_route *routes, size_t count, const char *const *prefixes,
			       const char *method, char *path, struct router_match *out)
{
	char *segments[ROUTER_SEGMENTS];
	*out = (struct router_match){.prefix = ""};
	int n = split(path, segments);
	if (n < 0)
		return ROUTER_BAD_PATH;
	bool rooted = n > 0 && strcmp(segments[0], "v1") != 0;
	if (n < (rooted ? 1 : 2))
		return ROUTER_NO_PATH;
	char **rest = segments + !rooted;
	n -= !rooted;
	if (!rooted && !router_is_reserved(routes, count, rest[0])) {
		int longest = 0;
		for (const char *const *p = prefixes; p && *p; p++) {
			int covered = prefix_covers(*p, rest, n);
			if (covered > longest) {
				longest = covered;
				out->prefix = *p;
			}
		}
		if (longest == 0)
			return ROUTER_NO_PREFIX;
		rest += longest;
		n -= longest;
	}
	for (size_t i = 0; i < count; i++) {
		if ((rooted && !routes[i].at_root) || !path_fits(routes[i].path, rest, n, out))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			out->route = &routes[i];
			return ROUTER_FOUND;
		}
		allow_add(out, routes[i].method);
	}
	return out->allow[0] ? ROUTER_NO_METHOD : ROUTER_NO_PATH;
}
