#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const struct {
	unsigned status;
	const char *code, *type;
} errors[] = {
	[HTTP_INVALID_ARGUMENT] = {400, "invalid_argument", "InvalidArgumentError"},
	[HTTP_UNSUPPORTED] = {400, "unsupported", "UnsupportedError"},
	[HTTP_UNAUTHENTICATED] = {401, "unauthenticated", "AuthError"},
	[HTTP_PERMISSION_DENIED] = {403, "permission_denied", "AuthError"},
	[HTTP_NOT_FOUND] = {404, "not_found", "NotFoundError"},
	[HTTP_ALREADY_EXISTS] = {409, "already_exists", "AlreadyExistsError"},
	[HTTP_INVALID_STATE] = {409, "invalid_state", "InvalidStateError"},
	[HTTP_STOPPED] = {409, "stopped", "StoppedError"},
	[HTTP_SESSION_REAPED] = {410, "session_reaped", "SessionReapedError"},
	[HTTP_IMAGE_PULL_FAILED] = {422, "image_pull_failed", "ImageError"},
	[HTTP_EXECUTION_FAILED] = {422, "execution_failed", "ExecutionError"},
	[HTTP_RESOURCE_EXHAUSTED] = {429, "resource_exhausted", "ResourceExhaustedError"},
	[HTTP_NETWORK_UNAVAILABLE] = {503, "network_unavailable", "NetworkError"},
	[HTTP_UPSTREAM_UNAVAILABLE] = {503, "upstream_unavailable", "UpstreamUnavailableError"},
	[HTTP_ENGINE_UNAVAILABLE] = {503, "engine_unavailable", "EngineError"},
	[HTTP_STORAGE_ERROR] = {500, "storage_error", "StorageError"},
	[HTTP_DATABASE_ERROR] = {500, "database_error", "DatabaseError"},
	[HTTP_METADATA_ERROR] = {500, "metadata_error", "MetadataError"},
	[HTTP_CONFIG_ERROR] = {500, "config_error", "ConfigError"},
	[HTTP_INTERNAL] = {500, "internal", "InternalError"},
	[HTTP_TIMEOUT] = {504, "timeout", "TimeoutError"},
};

const char *http_error_code(enum http_error error)
{
	return errors[error].code;
}

void http_set_header(struct http_request *r, const char *name, const char *value)
{
	if (r->header_count == sizeof r->headers / sizeof *r->headers)
		return;
	struct header *h = &r->headers[r->header_count++];
	snprintf(h->name, sizeof h->name, "%s", name);
	snprintf(h->value, sizeof h->value, "%s", value);
	for (char *p = h->value; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

void http_hold_reply(struct http_request *r, http_held_fn fn, void *arg)
{
	r->held_fn = fn;
	r->held_arg = arg;
}

void http_send_held(struct http_request *r)
{
	struct MHD_Response *response = r->held;
	r->held = NULL;
	request_answer(r, r->status, response);
}

/* Takes text, which may be NULL with len 0. */
static void answer_text(struct http_request *r, unsigned status, const char *type, char *text, size_t len)
{
	http_held_fn held = r->held_fn;
	const char *location = "";
	struct MHD_Response *response = MHD_create_response_from_buffer(
		len, text, text ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (!response)
		abort();
	if (type)
		MHD_add_response_header(response, "Content-Type", type);
	if (!held) {
		request_answer(r, status, response);
		return;
	}
	for (unsigned i = 0; i < r->header_count; i++)
		if (strcmp(r->headers[i].name, "Location") == 0)
			location = r->headers[i].value;
	r->held_fn = NULL;
	r->held = response;
	r->status = status;
	held(r->held_arg, status, location, text ? text : "", len);
}

/* Out of memory, an empty 500 is what can still be said. */
void http_reply_json(struct http_request *r, unsigned status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	answer_text(r, text ? status : 500, text ? "application/json" : NULL, text, text ? strlen(text) : 0);
}

void http_reply_text(struct http_request *r, unsigned status, const char *type, const char *text, size_t len)
{
	char *copy = len ? malloc(len) : NULL;
	if (copy)
		memcpy(copy, text, len);
	answer_text(r, copy || !len ? status : 500, copy ? type : NULL, copy, copy ? len : 0);
}

void http_reply_empty(struct http_request *r, unsigned status)
{
	answer_text(r, status, NULL, NULL, 0);
}

/* Cuts at the last whole code point: a message may end inside one, and jansson refuses broken UTF-8. */
static json_t *message_json(const char *message)
{
	size_t len = strlen(message);
	json_t *s = NULL;
	for (size_t cut = 0; !s && cut <= len && cut < 4; cut++)
		s = json_stringn(message, len - cut);
	return s ? s : json_string("(the message is not text)");
}

/* The 2026-02 dialect has a closed list of types; what came after it gets the nearest of them. */
static const char *old_type(enum http_error code)
{
	switch (code) {
	case HTTP_UNAUTHENTICATED:
	case HTTP_PERMISSION_DENIED:
		return "UnauthorizedError";
	case HTTP_SESSION_REAPED:
		return "NotFoundError";
	case HTTP_UPSTREAM_UNAVAILABLE:
		return "NetworkError";
	case HTTP_RESOURCE_EXHAUSTED:
	case HTTP_TIMEOUT:
		return "EngineError";
	default:
		return errors[code].type;
	}
}

static void reply_error(struct http_request *r, unsigned status, enum http_error code, json_t *more,
			const char *fmt, va_list ap)
{
	char message[1024];
	vsnprintf(message, sizeof message, fmt, ap);
	json_t *error = more ? more : json_object();
	const char *type = r->numeric ? old_type(code) : errors[code].type;
	if (!status)
		status = errors[code].status;
	json_object_set_new(error, "message", message_json(message));
	json_object_set_new(error, "type", json_string(type));
	json_object_set_new(error, "code",
			    r->numeric ? json_integer(status) : json_string(errors[code].code));
	json_object_set_new(error, "request_id", json_string(r->id));
	http_reply_json(r, status, json_pack("{s:o}", "error", error));
}

void http_reply_error(struct http_request *r, enum http_error code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	reply_error(r, 0, code, NULL, fmt, ap);
	va_end(ap);
}

void http_reply_error_with(struct http_request *r, unsigned status, enum http_error code, json_t *more,
			   const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	reply_error(r, status, code, more, fmt, ap);
	va_end(ap);
}
