/* GET /openapi.json: made of the table of routes, so that it says what is served and nothing else. The words
 * are here, one note for each route; a test finds a route without its note. */
#include <stdio.h>
#include <string.h>

#include "host-shim/daemon/auth/scopes.h"
#include "internal.h"

/* schemas.json as it lies beside this file, with a zero after it. */
__asm__(".pushsection .rodata\n"
	"schemas: .incbin \"host-shim/daemon/rest/schemas.json\"\n"
	".byte 0\n"
	".popsection\n");
extern const char schemas[] __attribute__((visibility("hidden")));

static const struct note {
	const char *method, *path, *summary;
	unsigned status;             /* of success; 0: not built yet */
	const char *takes, *returns; /* schemas; NULL: nothing, or not JSON */
	const char *query;           /* names, with a space between each two */
} notes[] = {
	{"GET", "/config", "What this server offers, and its limits", 200, NULL, "Config", ""},
	{"GET", "/me", "Who the caller is, and what it may do", 200, NULL, "Principal", ""},
	{"GET", "/healthz", "Whether this server serves", 200, NULL, "Health", ""},
	{"GET", "/openapi.json", "This document", 200, NULL, NULL, ""},
	{"POST", "/oauth/tokens", "A token for a client's id and secret", 200, NULL, "Token", ""},
	{"GET", "/oauth/clients", "The clients of this prefix", 200, NULL, "ClientList", ""},
	{"POST", "/oauth/clients", "Make a client; its secret is shown here only", 201, "NewClient", "Client",
	 ""},
	{"DELETE", "/oauth/clients/{name}", "Remove a client and its tokens, by name or id", 204, NULL, NULL,
	 ""},
	{"GET", "/api-keys", "The keys of this prefix", 200, NULL, "KeyList", ""},
	{"POST", "/api-keys", "Make a key; its value is shown here only", 201, "NewKey", "Key", ""},
	{"DELETE", "/api-keys/{name}", "Revoke a key", 204, NULL, NULL, ""},
	{"GET", "/prefixes", "The registered prefixes", 200, NULL, "PrefixList", ""},
	{"POST", "/prefixes", "Register a prefix", 204, "NewPrefix", NULL, ""},
	{"DELETE", "/prefixes/{name}", "Remove a prefix that has nothing in it", 204, NULL, NULL, ""},
	{"GET", "/boxes", "List boxes, by age", 200, NULL, "BoxList", "status name pageSize pageToken"},
	{"POST", "/boxes", "Make a box; it is started when it is first needed", 201, "NewBox", "Box", ""},
	{"GET", "/boxes/{box}", "A box, by id or name", 200, NULL, "Box", ""},
	{"HEAD", "/boxes/{box}", "Whether a box is there", 204, NULL, NULL, ""},
	{"DELETE", "/boxes/{box}", "Delete a box and all that is in it", 204, NULL, NULL, "force"},
	{"POST", "/boxes/{box}/start", "Start a box; nothing if it runs", 200, NULL, "Box", ""},
	{"POST", "/boxes/{box}/stop", "Stop a box in order, by force after a time", 200, "Stop", "Box", ""},
	{"POST", "/boxes/{box}/exec", "Run a command, in a box that is started if need be", 201, "Exec",
	 "Started", "wait"},
	{"GET", "/boxes/{box}/executions/{id}", "How a command is doing", 200, NULL, "Execution", ""},
	{"GET", "/boxes/{box}/attach", "The main command's output and input over a WebSocket", 101, NULL,
	 NULL, "from"},
	{"GET", "/boxes/{box}/exec/tty", "A command in a terminal over a WebSocket, as raw bytes", 101, NULL,
	 NULL, "command args rows cols"},
	{"DELETE", "/boxes/{box}/executions/{id}", "Kill a command and forget it", 204, NULL, NULL, ""},
	{"POST", "/boxes/{box}/executions/{id}/signal", "Send a signal", 204, "Signal", NULL, ""},
	{"GET", "/boxes/{box}/executions/{id}/attach", "Output and input over a WebSocket", 101, NULL, NULL,
	 "from"},
	{"GET", "/boxes/{box}/executions/{id}/output",
	 "Output as server-sent events; Last-Event-ID is a position in it", 200, NULL, NULL, "from"},
	{"POST", "/boxes/{box}/executions/{id}/input", "Write to standard input; X-Close-Stdin: true ends it",
	 204, NULL, NULL, ""},
	{"GET", "/metrics", "Counters of this prefix; as Prometheus' text if Accept asks for it", 200, NULL,
	 "Metrics", ""},
	{"GET", "/boxes/{box}/metrics", "Counters of a box, and how long its start took", 200, NULL,
	 "BoxMetrics", ""},
	{"PUT", "/boxes/{box}/files", "Unpack a tar at a path", 204, NULL, NULL, "path overwrite"},
	{"GET", "/boxes/{box}/files", "A path as a tar", 200, NULL, NULL, "path follow_symlinks"},
	{"GET", "/boxes/{box}/files/content", "A file's bytes, or a range of them", 200, NULL, NULL, "path"},
	{"HEAD", "/boxes/{box}/files/content", "A file's size and times", 200, NULL, NULL, "path"},
	{"PUT", "/boxes/{box}/files/content", "Write a file, whole or not at all", 204, NULL, NULL,
	 "path mode parents overwrite"},
	{"DELETE", "/boxes/{box}/files/content", "Remove a file or a folder", 204, NULL, NULL,
	 "path recursive"},
	{"GET", "/boxes/{box}/files/list", "What is in a folder", 200, NULL, NULL, "path depth limit"},
	{"GET", "/boxes/{box}/files/watch", "Changes below a folder, as server-sent events", 200, NULL, NULL,
	 "path recursive"},
	{"GET", "/boxes/{box}/processes", "What runs in a box", 200, NULL, NULL, ""},
	{"GET", "/boxes/{box}/console", "The console's log", 200, NULL, NULL, "follow"},
	{"GET", "/boxes/{box}/executions", "The commands of a box", 200, NULL, NULL, "limit"},
	{"POST", "/boxes/{box}/executions/{id}/resize", "Set a terminal's size", 204, "Resize", NULL, ""},
	{"DELETE", "/boxes/{box}/network/tunnel", "End a tunnel and its connections", 204, NULL, NULL,
	 "port"},
	{"POST", "/boxes/{box}/network/tunnel", "A way to a port of the box's loopback", 200, NULL, "Tunnel",
	 "port"},
	{"POST", "/images/pull", "Fetch an image; its progress as server-sent events if Accept asks for them",
	 200, "Pull", "Image", ""},
	{"POST", "/images/load", "Take an image from a docker or OCI archive, the body", 200, NULL, "Image",
	 "reference"},
	{"POST", "/images/prune", "Remove images that no box is made of and no tag leads to", 200, "Prune",
	 "Pruned", ""},
	{"GET", "/images/pulls", "The images that are on their way", 200, NULL, "PullList", ""},
	{"DELETE", "/images/pulls/{id}", "Cancel a pull", 204, NULL, NULL, ""},
	{"GET", "/images", "List images, by name", 200, NULL, "ImageList", "pageSize pageToken"},
	{"GET", "/images/{image}", "An image, by digest or reference", 200, NULL, "Image", ""},
	{"HEAD", "/images/{image}", "Whether an image is there", 204, NULL, NULL, ""},
	{"DELETE", "/images/{image}", "Remove an image that no box is made of", 204, NULL, NULL, ""},
	{"POST", "/volumes", "Make a volume", 201, "NewVolume", "Volume", ""},
	{"GET", "/volumes", "List volumes, by age", 200, NULL, "VolumeList", "pageSize pageToken"},
	{"GET", "/volumes/{volume}", "A volume, by id or name", 200, NULL, "Volume", ""},
	{"DELETE", "/volumes/{volume}", "Delete a volume that no box mounts, and all that is in it", 204,
	 NULL, NULL, "force"},
	{"POST", "/boxes/import", "Make a box of an archive, which is the body", 201, NULL, "Box", "name"},
	{"POST", "/boxes/{box}/export",
	 "A box as an archive, with its image and without its volumes and snapshots", 200, "Export", NULL,
	 ""},
	{"POST", "/boxes/{box}/clone", "Make a box of another's disk as it is now", 201, "Clone", "Box", ""},
	{"POST", "/boxes/{box}/snapshots",
	 "Keep the state of a box's disk, without its volumes; a box that runs "
	 "pauses for a moment",
	 201, "NewSnapshot", "Snapshot", ""},
	{"GET", "/boxes/{box}/snapshots", "List snapshots, by age", 200, NULL, "SnapshotList", ""},
	{"GET", "/boxes/{box}/snapshots/{name}", "A snapshot", 200, NULL, "Snapshot", ""},
	{"DELETE", "/boxes/{box}/snapshots/{name}", "Delete a snapshot", 204, NULL, NULL, ""},
	{"POST", "/boxes/{box}/snapshots/{name}/restore",
	 "Bring a snapshot back, to a box that is stopped; what was written since is lost", 204, NULL, NULL,
	 ""},
};

/* What few have: headers that mean something, a second status of success. */
static const struct extra {
	const char *method, *path, *headers;
	unsigned status; /* 0: none */
	const char *returns;
} extras[] = {
	{"POST", "/boxes/{box}/exec", "", 200, "Waited"},
	{"GET", "/boxes/{box}/files/content", "Range", 206, NULL},
	{"POST", "/boxes/{box}/executions/{id}/input", "X-Close-Stdin", 0, NULL},
	{"GET", "/boxes/{box}/executions/{id}/output", "Last-Event-ID", 0, NULL},
};

static const struct extra *find_extra(const struct http_route *route)
{
	static const struct extra none = {.headers = ""};
	for (size_t i = 0; i < sizeof extras / sizeof *extras; i++)
		if (strcmp(extras[i].method, route->method) == 0 && strcmp(extras[i].path, route->path) == 0)
			return &extras[i];
	return &none;
}

static const struct note *find_note(const struct http_route *route)
{
	static const struct note none = {.summary = "", .query = ""};
	for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
		if (strcmp(notes[i].method, route->method) == 0 && strcmp(notes[i].path, route->path) == 0)
			return &notes[i];
	return &none;
}

static json_t *content(const char *schema)
{
	return json_pack("{s:{s:o}}", "application/json", "schema",
			 json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", schema)));
}

static void add_parameter(json_t *list, const char *name, size_t len, const char *in, const char *type)
{
	json_array_append_new(list, json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", name, len, "in", in,
					      "required", strcmp(in, "path") == 0, "schema", "type", type));
}

static json_t *parameters(const struct http_route *route, const struct note *n)
{
	const char *header = find_extra(route)->headers;
	json_t *list = json_array();
	for (const char *at = route->path; (at = strchr(at, '{')); at++)
		add_parameter(list, at + 1, strcspn(at + 1, "}"), "path", "string");
	for (const char *at = n->query; *at; at += strspn(at, " ")) {
		size_t len = strcspn(at, " ");
		const char *type = strncmp(at, "force", len) == 0 || strncmp(at, "wait", len) == 0 ? "boolean"
				   : strncmp(at, "from", len) == 0 || strncmp(at, "pageSize", len) == 0
					   ? "integer"
					   : "string";
		add_parameter(list, at, len, "query", type);
		at += len;
	}
	if (*header)
		add_parameter(list, header, strlen(header), "header", "string");
	if (route->flags & ROUTE_ONCE)
		add_parameter(list, "Idempotency-Key", strlen("Idempotency-Key"), "header", "string");
	return list;
}

static void add_response(json_t *all, unsigned status, const char *returns)
{
	char text[16];
	json_t *good = json_pack("{s:s}", "description", "done");
	if (returns)
		json_object_set_new(good, "content", content(returns));
	snprintf(text, sizeof text, "%u", status);
	json_object_set_new(all, text, good);
}

static json_t *responses(const struct http_route *route, const struct note *n)
{
	const struct extra *x = find_extra(route);
	json_t *all = json_object();
	if (n->status)
		add_response(all, n->status, n->returns);
	if (x->status)
		add_response(all, x->status, x->returns);
	json_object_set_new(all, "default",
			    json_pack("{s:s, s:o}", "description",
				      n->status ? "an error" : "not built yet: 400, unsupported", "content",
				      content("Error")));
	return all;
}

static json_t *operation(const struct http_route *route)
{
	const struct note *n = find_note(route);
	const char *scope = scopes_name(route->scopes);
	json_t *o = json_pack("{s:s, s:o, s:o}", "summary", n->summary, "parameters", parameters(route, n),
			      "responses", responses(route, n));
	if (n->takes)
		json_object_set_new(o, "requestBody", json_pack("{s:o}", "content", content(n->takes)));
	json_t *security = json_array();
	if (!route->open)
		json_array_append_new(security, json_pack("{s:o}", "bearer",
							  scope ? json_pack("[s]", scope) : json_array()));
	json_object_set_new(o, "security", security);
	return o;
}

void rest_get_openapi(void *app, struct http_request *r)
{
	size_t count;
	const struct http_route *routes = rest_routes(&count);
	json_t *paths = json_object();
	(void)app;
	for (size_t i = 0; i < count; i++) {
		char method[8] = "";
		json_t *path = json_object_get(paths, routes[i].path);
		if (!path) {
			path = json_object();
			json_object_set_new(paths, routes[i].path, path);
		}
		for (size_t c = 0; routes[i].method[c] && c < sizeof method - 1; c++)
			method[c] = (char)(routes[i].method[c] | 0x20);
		json_object_set_new(path, method, operation(&routes[i]));
	}
	json_t *components = json_pack("{s:o, s:{s:{s:s, s:s}}}", "schemas", json_loads(schemas, 0, NULL),
				       "securitySchemes", "bearer", "type", "http", "scheme", "bearer");
	json_t *servers = json_pack("[{s:s}, {s:s, s:{s:{s:s}}}]", "url", "/v1", "url", "/v1/{prefix}",
				    "variables", "prefix", "default", TENANT_DEFAULT);
	http_reply_json(r, 200,
			json_pack("{s:s, s:{s:s, s:s}, s:o, s:o, s:o}", "openapi", "3.1.0", "info", "title",
				  "Tenon: micro-VMs over REST", "version", "1", "servers", servers, "paths",
				  paths, "components", components));
}
