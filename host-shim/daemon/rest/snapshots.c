#include <string.h>

#include "host-shim/daemon/boxes/snapshots.h"
#include "internal.h"

static json_t *snapshot_json(const struct snapshot_info *s)
{
	/* One disk is all a box has of its own; what the contract calls the guest's is the agent's, in
	 * memory. */
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:I, s:f}", "id", s->id, "box_id", s->box_id, "name",
			 s->name, "created_at", (json_int_t)(s->created_ms / 1000), "container_disk_bytes",
			 (json_int_t)s->disk_bytes, "guest_disk_bytes", 0, "size_bytes",
			 (json_int_t)s->size_bytes, "pause_ms", (double)s->pause_us / 1000);
}

static void on_made(void *arg, const struct snapshot_info *s, const struct failure *f)
{
	if (f)
		rest_reply_failure(arg, f);
	else
		http_reply_json(arg, 201, snapshot_json(s));
}

void rest_create_snapshot(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (!b)
		return;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	struct fields f;
	fields_parse(&f, body, len);
	const char *name = fields_string(&f, "name", 1, SNAPSHOT_NAME_MAX);
	if (!name)
		fields_fault(&f, "name", "is missing");
	/* Any text else: the published clients send it percent-encoded, with its slashes. */
	for (const char *p = name; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			fields_fault(&f, "name", "must not have control characters");
	if (name && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		fields_fault(&f, "name", "must not be one that URLs lose");
	if (rest_fields_ok(r, &f))
		box_snapshot(b, name, on_made, r);
	fields_finish(&f);
}

static void add(void *arg, const struct snapshot_info *s)
{
	json_array_append_new(arg, snapshot_json(s));
}

void rest_list_snapshots(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (!b)
		return;
	json_t *list = json_array();
	box_each_snapshot(b, add, list);
	http_reply_json(r, 200, json_pack("{s:o}", "snapshots", list));
}

void rest_get_snapshot(void *app, struct http_request *r)
{
	struct snapshot_info s;
	struct box *b = rest_box(app, r);
	if (b && box_find_snapshot(b, http_param(r, "name"), &s))
		http_reply_json(r, 200, snapshot_json(&s));
	else if (b)
		http_reply_error(r, HTTP_NOT_FOUND, "the box has no snapshot of that name");
}

void rest_delete_snapshot(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (b)
		box_delete_snapshot(b, http_param(r, "name"), rest_done, r);
}

void rest_restore_snapshot(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (b)
		box_restore(b, http_param(r, "name"), rest_done, r);
}

void rest_clone_box(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	struct box *b = t ? rest_box(rest, r) : NULL;
	if (!b)
		return;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	struct fields f;
	fields_parse(&f, body, len);
	const char *name = rest_read_name(&f, 1);
	if (rest_fields_ok(r, &f)) {
		if (rest_has_room(rest, r, t->prefix))
			box_clone(b, name, rest_box_created, r);
	}
	fields_finish(&f);
}
