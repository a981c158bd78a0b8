#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "limits.h"

static const char *status_name(enum box_status s)
{
	switch (s) {
	case BOX_CONFIGURED:
	case BOX_STARTING: /* BoxLite has no word for it */
		return "configured";
	case BOX_RUNNING:
		return "running";
	case BOX_STOPPING:
		return "stopping";
	case BOX_STOPPED:
		return "stopped";
	case BOX_FAILED:
		return "failed";
	}
	return "unknown";
}

static json_t *box_json(struct box *b)
{
	struct box_info i;
	box_get_info(b, &i);
	json_t *labels = i.labels_json ? json_loads(i.labels_json, 0, NULL) : NULL;
	json_t *o =
		json_pack("{s:s, s:s?, s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:b, s:I, s:i, s:o}", "box_id",
			  i.id, "name", i.name, "status", status_name(i.status), "image", i.image, "cpus",
			  (int)i.cpus, "memory_mib", (int)i.memory_mib, "disk_size_gb", (int)i.disk_size_gb,
			  "auto_stop", (json_int_t)i.auto_stop, "auto_delete", (json_int_t)i.auto_delete,
			  "auto_resume", (int)i.auto_resume, "boot_ms", (json_int_t)i.boot_ms, "executions",
			  (int)i.executions, "labels", labels ? labels : json_object());
	json_object_set_new(o, "created_at", rest_time(i.created_ms));
	json_object_set_new(o, "updated_at", rest_time(i.updated_ms));
	json_object_set_new(o, "pid", i.pid ? json_integer(i.pid) : json_null());
	if (i.working_dir)
		json_object_set_new(o, "working_dir", json_string(i.working_dir));
	if (i.error[0]) {
		/* A console's tail may hold anything: what is no UTF-8 would make the whole box unprintable.
		 */
		for (char *p = i.error; *p; p++)
			if ((unsigned char)*p >= 0x80 ||
			    ((unsigned char)*p < ' ' && *p != '\n' && *p != '\t'))
				*p = '?';
		json_object_set_new(o, "error", json_string(i.error));
	}
	return o;
}

static void on_box(void *arg, struct box *b, const struct failure *f)
{
	if (f)
		rest_reply_failure(arg, f);
	else
		http_reply_json(arg, 200, box_json(b));
}

void rest_box_created(void *arg, struct box *b, const struct failure *f)
{
	struct http_request *r = arg;
	if (f) {
		rest_reply_failure(r, f);
	} else {
		struct box_info i;
		box_get_info(b, &i);
		rest_set_location(r, "/boxes/%s", i.id);
		http_reply_json(r, 201, box_json(b));
	}
}

bool rest_has_room(struct rest *rest, struct http_request *r, const struct tenant *t)
{
	bool room = boxes_count(rest->config.boxes, t->prefix) < t->max_boxes;
	if (!room)
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED, "%u boxes are there, and no more may be",
				 t->max_boxes);
	return room;
}

void rest_create_box(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct box_request q;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t || !box_request_read(&q, r))
		return;
	q.spec.prefix = t->prefix;
	if (rest_has_room(rest, r, t))
		boxes_add(rest->config.boxes, &q.spec, rest_box_created, r);
	box_request_finish(&q);
}

/* ---- the list ---- */

struct listing {
	const char *status; /* NULL: all */
	const char *after;  /* the id that the last page ended with; "" at first */
	struct box **boxes;
	size_t count, room;
};

static void collect(void *arg, struct box *b)
{
	struct listing *l = arg;
	struct box_info i;
	box_get_info(b, &i);
	bool wanted =
		strcmp(i.id, l->after) > 0 && (!l->status || strcmp(status_name(i.status), l->status) == 0);
	if (wanted && l->count < l->room)
		l->boxes[l->count++] = b;
}

/* By id, which is by age. */
static int by_id(const void *a, const void *b)
{
	struct box_info x, y;
	box_get_info(*(struct box *const *)a, &x);
	box_get_info(*(struct box *const *)b, &y);
	return strcmp(x.id, y.id);
}

static bool read_status(struct http_request *r, const char **out)
{
	static const char *const names[] = {"configured", "running", "stopping", "stopped",
					    "paused",     "failed",  "unknown"};
	*out = http_query(r, "status");
	for (size_t i = 0; *out && i < sizeof names / sizeof *names; i++)
		if (strcmp(*out, names[i]) == 0)
			return true;
	if (*out)
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "status"),
				      "status must be a status of boxes, like running");
	return !*out;
}

/* Without a pageSize everything is on page 1: the published clients ignore next_page_token. */
static bool read_page(struct http_request *r, uint64_t *size, const char **after)
{
	const char *text = http_query(r, "pageSize");
	*after = http_query(r, "pageToken");
	*size = SIZE_MAX;
	if (text && (!rest_parse_position(text, size) || *size < 1 || *size > 1000))
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "pageSize"),
				      "pageSize must be between 1 and 1000");
	else if (*after && (!**after || strspn(*after, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != strlen(*after)))
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "pageToken"),
				      "pageToken must be a next_page_token of this list");
	else
		return true;
	return false;
}

void rest_list_boxes(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct listing l = {0};
	uint64_t size;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t || !read_status(r, &l.status) || !read_page(r, &size, &l.after))
		return;
	if (!l.after)
		l.after = "";
	l.room = boxes_count(rest->config.boxes, t->prefix);
	l.boxes = calloc(l.room + 1, sizeof(struct box *));
	if (!l.boxes) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	boxes_each(rest->config.boxes, t->prefix, collect, &l);
	qsort(l.boxes, l.count, sizeof(struct box *), by_id);
	json_t *list = json_array(), *next = json_null();
	for (size_t n = 0; n < l.count && n < size; n++) {
		json_t *o = box_json(l.boxes[n]);
		if (n + 1 == size && l.count > size)
			next = json_incref(json_object_get(o, "box_id"));
		json_array_append_new(list, o);
	}
	http_reply_json(r, 200, json_pack("{s:o, s:o}", "boxes", list, "next_page_token", next));
	free(l.boxes);
}

void rest_get_box(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (b)
		http_reply_json(r, 200, box_json(b));
}

void rest_head_box(void *app, struct http_request *r)
{
	if (rest_box(app, r))
		http_reply_empty(r, 204);
}

static void on_deleted(void *arg, struct box *b, const struct failure *f)
{
	(void)b;
	rest_done(arg, f);
}

void rest_delete_box(void *app, struct http_request *r)
{
	bool force;
	struct box *b = rest_box(app, r);
	if (b && http_query_flag(r, "force", &force) == 0)
		box_delete(b, force, on_deleted, r);
}

void rest_start_box(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (b)
		box_start(b, on_box, r);
}

void rest_stop_box(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (!b)
		return;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	struct fields f;
	fields_parse(&f, body, len);
	double seconds = fields_number(&f, "timeout_seconds", 0, 3600, DEFAULT_STOP_SECONDS);
	/* 0 is at once, which boxes.h says with its least; its own 0 is a default. */
	unsigned grace_ms = seconds < 0.001 ? 1 : (unsigned)(seconds * 1000);
	if (rest_fields_ok(r, &f))
		box_stop(b, grace_ms, on_box, r);
	fields_finish(&f);
}
