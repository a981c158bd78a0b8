#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "limits.h"
#include "proto/cleanup.h"

#define ID_DIGITS                                       \
	"0123456789ABCDEFGHJKMNPQRSTVWXYZ" /* ULIDs' */ \
	"vol_"                             /* before those of volumes */

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

/* Nothing publishes a box's ports: to everybody they are closed. */
static json_t *network_json(const struct box_settings *s)
{
	return json_pack("{s:{s:s, s:[]}, s:{s:s, s:[]}}", "outbound", "mode",
			 s->outbound ? "enabled" : "disabled", "allow_net", "inbound", "mode", "disabled",
			 "allow_net");
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
	json_object_set_new(o, "network", network_json(i.settings));
	json_object_set_new(o, "created_at", rest_time(i.created_ms));
	if (i.settings && i.settings->n_volumes)
		json_object_set_new(o, "volumes", rest_volumes_json(i.settings));
	json_object_set_new(o, "updated_at", rest_time(i.updated_ms));
	json_object_set_new(o, "pid", i.pid ? json_integer(i.pid) : json_null());
	json_object_set_new(o, "exit_code", i.has_exit ? json_integer(i.exit_code) : json_null());
	json_object_set_new(o, "tty", json_boolean(i.settings && i.settings->tty));
	if (i.main_id)
		json_object_set_new(o, "main_execution_id", json_string(i.main_id));
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

/* ---- making one: its image is fetched first, if it is not here --------------------------------------- */

struct creation {
	struct rest *rest;
	struct http_request *r;
	struct box_request q;
	char *prefix;
	struct image_want *want; /* while it is being fetched */
};

static void creation_free(struct creation *c)
{
	images_unwant(c->want);
	box_request_finish(&c->q);
	free(c->prefix);
	free(c);
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

bool rest_may_add(struct rest *rest, const char *prefix, struct failure *f)
{
	const struct tenant *t = tenants_find(auth_tenants(rest->config.auth), prefix);
	if (t && boxes_count(rest->config.boxes, prefix) < t->max_boxes)
		return true;
	*f = (struct failure){.kind = t ? FAIL_EXHAUSTED : FAIL_NOT_FOUND};
	if (t)
		snprintf(f->message, sizeof f->message, "%u boxes are there, and no more may be",
			 t->max_boxes);
	else
		snprintf(f->message, sizeof f->message, "the prefix was removed meanwhile");
	return false;
}

bool rest_has_room(struct rest *rest, struct http_request *r, const char *prefix)
{
	struct failure f;
	bool room = rest_may_add(rest, prefix, &f);
	if (!room)
		rest_reply_failure(r, &f);
	return room;
}

static bool may_create(struct creation *c)
{
	struct failure f;
	if (!rest_has_room(c->rest, c->r, c->prefix))
		return false;
	bool ok = boxes_check(c->rest->config.boxes, &c->q.spec, &f);
	if (!ok)
		rest_reply_failure(c->r, &f);
	return ok;
}

static bool take_image(struct creation *c, const struct image_info *i)
{
	struct box_settings *s = &c->q.settings, copy;
	const struct box_settings image = {.image_digest = (char *)i->digest, .image = *i->config};
	if (i->builtin)
		return true;
	if (settings_copy(&copy, &image) < 0) {
		http_reply_error(c->r, HTTP_INTERNAL, "no memory");
		return false;
	}
	s->image_digest = steal_ptr(&copy.image_digest);
	s->image = copy.image;
	copy.image = (struct image_config){0};
	settings_finish(&copy);
	return true;
}

/* From here to the box's row in memory the loop does not turn: the image cannot go. */
static void create(struct creation *c, const struct image_info *i)
{
	if (may_create(c) && take_image(c, i))
		boxes_add(c->rest->config.boxes, &c->q.spec, rest_box_created, c->r);
	creation_free(c);
}

static void on_image(void *arg, const struct image_info *i, const struct failure *f)
{
	struct creation *c = arg;
	c->want = NULL;
	http_on_gone(c->r, NULL, NULL);
	if (i) {
		create(c, i);
		return;
	}
	rest_reply_failure(c->r, f);
	creation_free(c);
}

static void on_creator_gone(void *arg)
{
	struct creation *c = arg;
	http_reply_empty(c->r, 204);
	creation_free(c);
}

static void find_image(struct creation *c)
{
	struct images *images = c->rest->config.images;
	const char *name = c->q.spec.image;
	struct image_request q = {.prefix = c->prefix, .reference = name, .done = on_image, .arg = c};
	struct image_info i;
	struct failure f;
	struct err e = {0};
	int status = images_find(images, c->prefix, name, &i, &e);
	if (status == 0) {
		create(c, &i);
	} else if (status == -EINVAL || digest_is_valid(name)) {
		http_reply_error_with(c->r, 0, status == -EINVAL ? HTTP_INVALID_ARGUMENT : HTTP_NOT_FOUND,
				      json_pack("{s:s}", "field", "image"), "image: %s", e.msg);
		creation_free(c);
	} else if ((c->want = images_pull(images, &q, &f))) {
		http_on_gone(c->r, on_creator_gone, c);
	} else {
		rest_reply_failure(c->r, &f);
		creation_free(c);
	}
}

void rest_create_box(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	struct creation *c = t ? calloc(1, sizeof *c) : NULL;
	if (!t)
		return;
	char *prefix = strdup(t->prefix);
	if (!c || !prefix) {
		free(c);
		free(prefix);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	*c = (struct creation){.rest = rest, .r = r, .prefix = prefix};
	if (!box_request_read(&c->q, r)) {
		free(prefix);
		free(c);
		return;
	}
	c->q.spec.prefix = prefix;
	if (may_create(c))
		find_image(c);
	else
		creation_free(c);
}

/* ---- the list ---- */

struct listing {
	const char *status; /* NULL: all */
	const char *name;   /* the same */
	const char *after;  /* the id that the last page ended with; "" at first */
	struct box **boxes;
	size_t count, room;
};

static void collect(void *arg, struct box *b)
{
	struct listing *l = arg;
	struct box_info i;
	box_get_info(b, &i);
	bool wanted = strcmp(i.id, l->after) > 0 &&
		      (!l->status || strcmp(status_name(i.status), l->status) == 0) &&
		      (!l->name || (i.name && strcmp(i.name, l->name) == 0));
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
bool rest_read_page(struct http_request *r, uint64_t *size, const char **after)
{
	const char *text = http_query(r, "pageSize");
	*after = http_query(r, "pageToken");
	*size = SIZE_MAX;
	if (text && (!rest_parse_position(text, size) || *size < 1 || *size > 1000))
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "pageSize"),
				      "pageSize must be between 1 and 1000");
	else if (*after && (!**after || strspn(*after, ID_DIGITS) != strlen(*after)))
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
	if (!t || !read_status(r, &l.status) || !rest_read_page(r, &size, &l.after))
		return;
	l.name = http_query(r, "name");
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
