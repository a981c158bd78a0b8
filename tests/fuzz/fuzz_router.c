/* A URL's path: found or refused, without a step outside it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/http/router.h"

static const struct http_route routes[] = {
	{.method = "GET", .path = "/config"},
	{.method = "GET", .path = "/boxes/{box}"},
	{.method = "POST", .path = "/boxes/{box}/exec"},
	{.method = "GET", .path = "/boxes/{box}/executions/{id}/output"},
};
static const char *const prefixes[] = {"default", "a/b", NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *path = malloc(len + 1);
	memcpy(path, data, len);
	path[len] = '\0';
	struct router_match m;
	size_t used = strlen(path);
	if (router_find(routes, 4, prefixes, "GET", path, &m) == ROUTER_FOUND)
		for (unsigned i = 0; i < m.param_count; i++)
			if (m.params[i].value < path ||
			    m.params[i].value + strlen(m.params[i].value) > path + used)
				abort();
	free(path);
	return 0;
}
