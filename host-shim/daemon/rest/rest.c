#include "rest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host-shim/daemon/auth/scopes.h"
#include "host-shim/daemon/http/router.h"
#include "internal.h"

#define INPUT_MAX (4u << 20)

static const struct http_route routes[] = {
	{.method = "GET", .path = "/config", .handle = rest_get_config, .open = true},
	{.method = "GET", .path = "/me", .handle = rest_get_me, .scopes = SCOPE_ME},
	{.method = "POST", .path = "/oauth/tokens", .handle = rest_create_token, .open = true},
	{.method = "GET", .path = "/oauth/clients", .handle = rest_list_clients, .scopes = SCOPE_KEY_READ},
	{.method = "POST", .path = "/oauth/clients", .handle = rest_create_client, .scopes = SCOPE_KEY_WRITE},
	{.method = "DELETE",
	 .path = "/oauth/clients/{name}",
	 .handle = rest_delete_client,
	 .scopes = SCOPE_KEY_DELETE},
	{.method = "GET", .path = "/api-keys", .handle = rest_list_keys, .scopes = SCOPE_KEY_READ},
	{.method = "POST", .path = "/api-keys", .handle = rest_create_key, .scopes = SCOPE_KEY_WRITE},
	{.method = "DELETE",
	 .path = "/api-keys/{name}",
	 .handle = rest_delete_key,
	 .scopes = SCOPE_KEY_DELETE},
	{.method = "GET", .path = "/prefixes", .handle = rest_list_prefixes, .scopes = SCOPE_ADMIN},
	{.method = "POST", .path = "/prefixes", .handle = rest_create_prefix, .scopes = SCOPE_ADMIN},
	{.method = "DELETE", .path = "/prefixes/{name}", .handle = rest_delete_prefix, .scopes = SCOPE_ADMIN},
	{.method = "POST",
	 .path = "/boxes",
	 .handle = rest_create_box,
	 .scopes = SCOPE_BOX_WRITE,
	 .flags = ROUTE_ONCE},
	{.method = "GET", .path = "/boxes", .handle = rest_list_boxes, .scopes = SCOPE_BOX_READ},
	{.method = "GET", .path = "/boxes/{box}", .handle = rest_get_box, .scopes = SCOPE_BOX_READ},
	{.method = "HEAD", .path = "/boxes/{box}", .handle = rest_head_box, .scopes = SCOPE_BOX_READ},
	{.method = "DELETE",
	 .path = "/boxes/{box}",
	 .handle = rest_delete_box,
	 .scopes = SCOPE_BOX_DELETE,
	 .flags = ROUTE_ONCE | ROUTE_REPEATABLE},
	{.method = "POST",
	 .path = "/boxes/{box}/start",
	 .handle = rest_start_box,
	 .scopes = SCOPE_BOX_WRITE,
	 .flags = ROUTE_ONCE | ROUTE_REPEATABLE},
	{.method = "POST",
	 .path = "/boxes/{box}/stop",
	 .handle = rest_stop_box,
	 .scopes = SCOPE_BOX_WRITE,
	 .flags = ROUTE_ONCE | ROUTE_REPEATABLE},
	{.method = "POST",
	 .path = "/boxes/{box}/exec",
	 .handle = rest_exec,
	 .scopes = SCOPE_BOX_EXEC,
	 .flags = ROUTE_ONCE},
	{.method = "GET",
	 .path = "/boxes/{box}/attach",
	 .handle = rest_attach_main,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "GET", .path = "/boxes/{box}/exec/tty", .handle = rest_exec_tty, .scopes = SCOPE_BOX_EXEC},
	{.method = "GET",
	 .path = "/boxes/{box}/executions/{id}",
	 .handle = rest_get_execution,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "DELETE",
	 .path = "/boxes/{box}/executions/{id}",
	 .handle = rest_delete_execution,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "POST",
	 .path = "/boxes/{box}/executions/{id}/signal",
	 .handle = rest_signal,
	 .scopes = SCOPE_BOX_EXEC,
	 .flags = ROUTE_ONCE},
	{.method = "GET",
	 .path = "/boxes/{box}/executions/{id}/attach",
	 .handle = rest_attach,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "GET",
	 .path = "/boxes/{box}/executions/{id}/output",
	 .handle = rest_output,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "PUT",
	 .path = "/boxes/{box}/files",
	 .handle = rest_put_tar,
	 .streams = true,
	 .scopes = SCOPE_BOX_WRITE},
	{.method = "GET", .path = "/boxes/{box}/files", .handle = rest_get_tar, .scopes = SCOPE_BOX_READ},
	{.method = "GET",
	 .path = "/boxes/{box}/files/content",
	 .handle = rest_get_file,
	 .scopes = SCOPE_BOX_READ},
	{.method = "HEAD",
	 .path = "/boxes/{box}/files/content",
	 .handle = rest_head_file,
	 .scopes = SCOPE_BOX_READ},
	{.method = "PUT",
	 .path = "/boxes/{box}/files/content",
	 .handle = rest_put_file,
	 .streams = true,
	 .scopes = SCOPE_BOX_WRITE},
	{.method = "DELETE",
	 .path = "/boxes/{box}/files/content",
	 .handle = rest_delete_file,
	 .scopes = SCOPE_BOX_WRITE},
	{.method = "GET",
	 .path = "/boxes/{box}/files/list",
	 .handle = rest_list_folder,
	 .scopes = SCOPE_BOX_READ},
	{.method = "GET",
	 .path = "/boxes/{box}/files/watch",
	 .handle = rest_watch_folder,
	 .scopes = SCOPE_BOX_READ},
	{.method = "POST",
	 .path = "/boxes/{box}/network/tunnel",
	 .handle = rest_tunnel,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "DELETE",
	 .path = "/boxes/{box}/network/tunnel",
	 .handle = rest_revoke_tunnel,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "GET",
	 .path = "/boxes/{box}/processes",
	 .handle = rest_list_processes,
	 .scopes = SCOPE_BOX_READ},
	{.method = "GET", .path = "/boxes/{box}/console", .handle = rest_console, .scopes = SCOPE_BOX_READ},
	{.method = "GET",
	 .path = "/boxes/{box}/executions",
	 .handle = rest_list_executions,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "POST",
	 .path = "/boxes/{box}/executions/{id}/resize",
	 .handle = rest_resize,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "POST",
	 .path = "/boxes/{box}/executions/{id}/input",
	 .handle = rest_input,
	 .body_max = INPUT_MAX,
	 .scopes = SCOPE_BOX_EXEC},
	{.method = "GET", .path = "/openapi.json", .handle = rest_get_openapi, .open = true, .at_root = true},
	{.method = "GET", .path = "/healthz", .handle = rest_get_health, .open = true, .at_root = true},
	{.method = "GET",
	 .path = "/metrics",
	 .handle = rest_get_metrics,
	 .at_root = true,
	 .scopes = SCOPE_BOX_READ | SCOPE_RUNTIME},
	{.method = "GET",
	 .path = "/boxes/{box}/metrics",
	 .handle = rest_box_metrics,
	 .scopes = SCOPE_BOX_READ | SCOPE_RUNTIME},
	{.method = "POST",
	 .path = "/images/pull",
	 .handle = rest_pull_image,
	 .scopes = SCOPE_IMAGE_WRITE,
	 .flags = ROUTE_ONCE | ROUTE_REPEATABLE},
	{.method = "POST",
	 .path = "/images/load",
	 .handle = rest_load_image,
	 .streams = true,
	 .scopes = SCOPE_IMAGE_WRITE},
	{.method = "POST", .path = "/images/prune", .handle = rest_prune_images, .scopes = SCOPE_IMAGE_WRITE},
	{.method = "GET", .path = "/images/pulls", .handle = rest_list_pulls, .scopes = SCOPE_IMAGE_READ},
	{.method = "DELETE",
	 .path = "/images/pulls/{id}",
	 .handle = rest_cancel_pull,
	 .scopes = SCOPE_IMAGE_WRITE},
	{.method = "GET", .path = "/images", .handle = rest_list_images, .scopes = SCOPE_IMAGE_READ},
	{.method = "GET", .path = "/images/{image}", .handle = rest_get_image, .scopes = SCOPE_IMAGE_READ},
	{.method = "HEAD", .path = "/images/{image}", .handle = rest_head_image, .scopes = SCOPE_IMAGE_READ},
	{.method = "DELETE",
	 .path = "/images/{image}",
	 .handle = rest_delete_image,
	 .scopes = SCOPE_IMAGE_WRITE},
	{.method = "POST",
	 .path = "/volumes",
	 .handle = rest_create_volume,
	 .scopes = SCOPE_VOLUME_WRITE,
	 .flags = ROUTE_ONCE},
	{.method = "GET", .path = "/volumes", .handle = rest_list_volumes, .scopes = SCOPE_VOLUME_READ},
	{.method = "GET",
	 .path = "/volumes/{volume}",
	 .handle = rest_get_volume,
	 .scopes = SCOPE_VOLUME_READ},
	{.method = "DELETE",
	 .path = "/volumes/{volume}",
	 .handle = rest_delete_volume,
	 .scopes = SCOPE_VOLUME_DELETE},
	{.method = "POST",
	 .path = "/boxes/import",
	 .handle = rest_import_box,
	 .streams = true,
	 .scopes = SCOPE_BOX_WRITE},
	{.method = "POST",
	 .path = "/boxes/{box}/export",
	 .handle = rest_export_box,
	 .scopes = SCOPE_BOX_READ},
	{.method = "POST",
	 .path = "/boxes/{box}/clone",
	 .handle = rest_clone_box,
	 .scopes = SCOPE_BOX_WRITE,
	 .flags = ROUTE_ONCE},
	{.method = "POST",
	 .path = "/boxes/{box}/snapshots",
	 .handle = rest_create_snapshot,
	 .scopes = SCOPE_BOX_WRITE,
	 .flags = ROUTE_ONCE},
	{.method = "GET",
	 .path = "/boxes/{box}/snapshots",
	 .handle = rest_list_snapshots,
	 .scopes = SCOPE_BOX_READ},
	{.method = "GET",
	 .path = "/boxes/{box}/snapshots/{name}",
	 .handle = rest_get_snapshot,
	 .scopes = SCOPE_BOX_READ},
	{.method = "DELETE",
	 .path = "/boxes/{box}/snapshots/{name}",
	 .handle = rest_delete_snapshot,
	 .scopes = SCOPE_BOX_DELETE,
	 .flags = ROUTE_ONCE | ROUTE_REPEATABLE},
	{.method = "POST",
	 .path = "/boxes/{box}/snapshots/{name}/restore",
	 .handle = rest_restore_snapshot,
	 .scopes = SCOPE_BOX_WRITE,
	 .flags = ROUTE_ONCE | ROUTE_REPEATABLE},
};
#define ROUTES (sizeof routes / sizeof *routes)

int rest_create(struct rest **out, const struct rest_config *c, struct err *e)
{
	struct rest *rest = calloc(1, sizeof *rest);
	if (!rest)
		return err_sys(e, "rest", ENOMEM, "no memory");
	rest->config = *c;
	if (!rest->config.hold_ms)
		rest->config.hold_ms = 10000;
	*out = rest;
	return 0;
}

void rest_destroy(struct rest *rest)
{
	free(rest);
}

static const char *const *prefixes(void *app)
{
	const struct rest *rest = app;
	return tenants_prefixes(auth_tenants(rest->config.auth));
}

static void greet(void *app, struct http_request *r)
{
	(void)app;
	auth_greet(r);
}

static bool authorize(void *app, struct http_request *r)
{
	const struct rest *rest = app;
	return auth_allows(rest->config.auth, r);
}

void rest_serve(struct rest *rest, struct http_config *http)
{
	http->routes = routes;
	http->route_count = ROUTES;
	http->prefixes = prefixes;
	http->app = rest;
	http->greet = greet;
	http->authorize = authorize;
	http->admit = rest_admit;
}

const struct http_route *rest_routes(size_t *count)
{
	*count = ROUTES;
	return routes;
}

bool rest_is_reserved(const char *segment)
{
	return router_is_reserved(routes, ROUTES, segment);
}

/* ---- what the handlers share ---- */

const struct tenant *rest_tenant(struct rest *rest, struct http_request *r)
{
	const struct tenant *t = auth_tenant(rest->config.auth, r);
	if (!t)
		http_reply_error(r, HTTP_NOT_FOUND, "the prefix, or the key, was removed meanwhile");
	return t;
}

struct box *rest_box(struct rest *rest, struct http_request *r)
{
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return NULL;
	struct box *b = boxes_find(rest->config.boxes, t->prefix, http_param(r, "box"));
	if (!b)
		http_reply_error(r, HTTP_NOT_FOUND, "no box %.128s", http_param(r, "box"));
	return b;
}

struct execution *rest_execution(struct rest *rest, struct http_request *r)
{
	struct box *b = rest_box(rest, r);
	if (!b)
		return NULL;
	struct box_info box;
	box_get_info(b, &box);
	bool reaped = false;
	const char *id = http_param(r, "id");
	struct execution *x = executions_find(rest->config.executions, box.id, id, &reaped);
	if (!x && reaped)
		http_reply_error(r, HTTP_SESSION_REAPED,
				 "execution %.64s is gone: it ended and is not kept any more", id);
	else if (!x)
		http_reply_error(r, HTTP_NOT_FOUND, "no execution %.64s in this box", id);
	return x;
}

static enum http_error code_of(const struct failure *f)
{
	static const enum http_error codes[] = {
		[FAIL_INVALID] = HTTP_INVALID_ARGUMENT,
		[FAIL_NOT_FOUND] = HTTP_NOT_FOUND,
		[FAIL_CONFLICT] = HTTP_INVALID_STATE,
		[FAIL_EXISTS] = HTTP_ALREADY_EXISTS,
		[FAIL_GONE] = HTTP_SESSION_REAPED,
		[FAIL_EXEC] = HTTP_EXECUTION_FAILED,
		[FAIL_EXHAUSTED] = HTTP_RESOURCE_EXHAUSTED,
		[FAIL_UNAVAILABLE] = HTTP_ENGINE_UNAVAILABLE,
		[FAIL_TIMEOUT] = HTTP_TIMEOUT,
		[FAIL_UNSUPPORTED] = HTTP_UNSUPPORTED,
		[FAIL_PERMISSION] = HTTP_PERMISSION_DENIED,
		[FAIL_NO_SPACE] = HTTP_RESOURCE_EXHAUSTED,
		[FAIL_IMAGE] = HTTP_IMAGE_PULL_FAILED,
		[FAIL_INTERNAL] = HTTP_INTERNAL,
	};
	return codes[f->kind];
}

const char *rest_failure_code(const struct failure *f)
{
	return http_error_code(code_of(f));
}

void rest_reply_failure(struct http_request *r, const struct failure *f)
{
	unsigned status = f->kind == FAIL_NO_SPACE ? 507 : 0;
	json_t *more = json_object();
	const char *name = f->errnum ? strerrorname_np(f->errnum) : NULL;
	/* "exec.user" is "user" here: requests of REST have no such first part. */
	const char *field = strchr(f->field, '.') ? strchr(f->field, '.') + 1 : f->field;
	if (field[0])
		json_object_set_new(more, "field", json_string(field));
	if (f->stage[0])
		json_object_set_new(more, "stage", json_string(f->stage));
	if (f->errnum) {
		json_object_set_new(more, "errno", json_integer(f->errnum));
		json_object_set_new(more, "errno_name", json_string(name ? name : "?"));
	}
	if (f->path[0])
		json_object_set_new(more, "path", rest_text(f->path, strlen(f->path)));
	if (f->kind == FAIL_EXEC) {
		/* "execve: ENOENT: …", also if the agent's sentence begins with the stage itself. */
		size_t len = strlen(f->stage);
		const char *rest = strncmp(f->message, f->stage, len) == 0 ? f->message + len : f->message;
		rest += strspn(rest, ": ");
		http_reply_error_with(r, 0, code_of(f), more, "%s: %s: %s", f->stage, name ? name : "failed",
				      rest);
	} else {
		http_reply_error_with(r, status, code_of(f), more, "%s", f->message);
	}
}

bool rest_fields_ok(struct http_request *r, struct fields *f)
{
	bool ok = fields_done(f);
	if (!ok)
		http_reply_error_with(r, 0, f->unsupported ? HTTP_UNSUPPORTED : HTTP_INVALID_ARGUMENT,
				      f->field[0] ? json_pack("{s:s}", "field", f->field) : NULL, "%s",
				      f->problem);
	return ok;
}

void rest_set_location(struct http_request *r, const char *fmt, ...)
{
	char location[256];
	const char *prefix = http_prefix(r);
	int used = snprintf(location, sizeof location, "/v1%s%s", prefix[0] ? "/" : "", prefix);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(location + used, sizeof location - (size_t)used, fmt, ap);
	va_end(ap);
	http_set_header(r, "Location", location);
}

json_t *rest_time(int64_t unix_ms)
{
	time_t seconds = unix_ms / 1000;
	struct tm tm;
	char text[48];
	gmtime_r(&seconds, &tm);
	size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof text - n, ".%03dZ", (int)(unix_ms % 1000));
	return json_string(text);
}

void rest_done(void *arg, const struct failure *f)
{
	if (f)
		rest_reply_failure(arg, f);
	else
		http_reply_empty(arg, 204);
}

bool rest_parse_position(const char *text, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && !*end && !errno;
}

bool rest_from(struct http_request *r, uint64_t fallback, uint64_t *out)
{
	const char *text = http_query(r, "from");
	*out = fallback;
	if (!text || rest_parse_position(text, out))
		return true;
	http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "from"),
			      "from must be a log position: an integer that is not negative");
	return false;
}
