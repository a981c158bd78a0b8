/* The prefixes of this tenond, for its admin. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/http/router.h"
#include "internal.h"

static json_t *tenant_json(const struct tenant *t)
{
	return json_pack("{s:s, s:i, s:o}", "prefix", t->prefix, "max_boxes", (int)t->max_boxes, "created_at",
			 t->created_ms ? rest_time(t->created_ms) : json_null());
}

void rest_list_prefixes(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct tenants *ts = auth_tenants(rest->config.auth);
	json_t *list = json_array();
	for (const char *const *p = tenants_prefixes(ts); *p; p++)
		json_array_append_new(list, tenant_json(tenants_find(ts, *p)));
	http_reply_json(r, 200, json_pack("{s:o}", "prefixes", list));
}

static void reply_failure(struct http_request *r, int status)
{
	if (status == -EEXIST)
		http_reply_error(r, HTTP_ALREADY_EXISTS, "this prefix is registered");
	else if (status == -ENOENT)
		http_reply_error(r, HTTP_NOT_FOUND, "this prefix is not registered");
	else if (status == -ENOSPC)
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED, "at most %d prefixes are registered",
				 TENANTS_MAX);
	else
		http_reply_error(r, HTTP_DATABASE_ERROR, "this could not be kept: %s", strerror(-status));
}

static void on_changed(void *arg, int status)
{
	if (status < 0)
		reply_failure(arg, status);
	else
		http_reply_empty(arg, 204);
}

/* Its images' names go first: nobody could see them any more, and no box is made of them. */
struct deletion {
	struct rest *rest;
	struct http_request *r;
	char prefix[129];
};

/* True: there is nothing in it. False: it has replied. */
static bool is_empty(struct rest *rest, struct http_request *r, const char *prefix)
{
	if (!boxes_count(rest->config.boxes, prefix) && !volumes_count(rest->config.volumes, prefix) &&
	    !credentials_any(auth_credentials(rest->config.auth), prefix) &&
	    !images_are_wanted(rest->config.images, prefix))
		return true;
	http_reply_error(r, HTTP_INVALID_STATE,
			 "boxes, volumes, keys, clients or pulls still belong to this prefix");
	return false;
}

static void on_names_gone(void *arg, unsigned names, uint64_t bytes, const struct failure *f)
{
	struct deletion *d = arg;
	(void)names;
	(void)bytes;
	/* Somebody may have been quicker. */
	if (f)
		rest_reply_failure(d->r, f);
	else if (is_empty(d->rest, d->r, d->prefix))
		tenants_remove(auth_tenants(d->rest->config.auth), d->prefix, on_changed, d->r);
	free(d);
}

void rest_create_prefix(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct fields f;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	fields_parse(&f, body, len);
	const char *prefix = fields_string(&f, "prefix", 1, 128);
	int64_t max_boxes = fields_int(&f, "max_boxes", 1, 1000000, TENANT_BOXES_MAX);
	char first[129];
	if (!prefix) {
		fields_fault(&f, "prefix", "is missing");
	} else if (!tenant_is_valid(prefix)) {
		fields_fault(
			&f, "prefix",
			"must be segments of letters, digits, '.', '_' and '-', each beginning with a letter "
			"or digit");
	} else {
		size_t n = strcspn(prefix, "/");
		memcpy(first, prefix, n);
		first[n] = '\0';
		if (rest_is_reserved(first))
			fields_fault(&f, "prefix", "begins with the name of a resource");
	}
	if (rest_fields_ok(r, &f))
		tenants_add(auth_tenants(rest->config.auth), prefix, (unsigned)max_boxes, on_changed, r);
	fields_finish(&f);
}

void rest_delete_prefix(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const char *prefix = http_param(r, "name");
	struct deletion *d;
	if (strcmp(prefix, TENANT_DEFAULT) == 0)
		http_reply_error(r, HTTP_INVALID_STATE, "the default prefix stays");
	else if (!is_empty(rest, r, prefix))
		return;
	else if (strlen(prefix) >= sizeof d->prefix || !(d = malloc(sizeof *d)))
		http_reply_error(r, HTTP_NOT_FOUND, "this prefix is not registered");
	else {
		*d = (struct deletion){.rest = rest, .r = r};
		strcpy(d->prefix, prefix);
		images_prune(rest->config.images, prefix, true, on_names_gone, d);
	}
}
