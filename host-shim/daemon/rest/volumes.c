/* Managed volumes, and what create says of a box's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- /volumes --------------------------------------------------------------------------------------- */

static json_t *summary_json(const struct volume_info *v)
{
	return json_pack("{s:s, s:s, s:s, s:o}", "id", v->id, "name", v->name, "state", "ready", "created_at",
			 rest_time(v->created_ms));
}

static json_t *volume_json(const struct volume_info *v)
{
	json_t *o = summary_json(v);
	json_object_set_new(o, "updated_at", rest_time(v->used_ms ? v->used_ms : v->created_ms));
	if (v->used_ms)
		json_object_set_new(o, "last_used_at", rest_time(v->used_ms));
	return o;
}

static void reply_failure(struct http_request *r, int status, const struct err *e)
{
	if (status == -EEXIST)
		http_reply_error(r, HTTP_ALREADY_EXISTS, "%s", e->msg);
	else if (status == -ENOENT)
		http_reply_error(r, HTTP_NOT_FOUND, "%s", e->msg);
	else if (status == -EMFILE)
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED, "%s", e->msg);
	else if (status == -ENOSPC || status == -EDQUOT)
		http_reply_error_with(r, 507, HTTP_RESOURCE_EXHAUSTED, NULL, "%s", e->msg);
	else
		http_reply_error(r, HTTP_STORAGE_ERROR, "%s", e->msg);
}

static void on_added(void *arg, const struct volume_info *v, int status, const struct err *e)
{
	struct http_request *r = arg;
	if (!v) {
		reply_failure(r, status, e);
		return;
	}
	rest_set_location(r, "/volumes/%s", v->id);
	http_reply_json(r, 201, volume_json(v));
}

void rest_create_volume(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	struct fields f;
	fields_parse(&f, body, len);
	const char *name = rest_read_name(&f, 2);
	if (rest_fields_ok(r, &f))
		volumes_add(rest->config.volumes, t->prefix, name, on_added, r);
	fields_finish(&f);
}

struct listing {
	const char *after; /* the id that the last page ended with; "" at first */
	uint64_t size;
	json_t *list, *next;
};

static void collect(void *arg, const struct volume_info *v)
{
	struct listing *l = arg;
	if (strcmp(v->id, l->after) <= 0)
		return;
	if (json_array_size(l->list) < l->size)
		json_array_append_new(l->list, summary_json(v));
	else if (!l->next)
		l->next = json_incref(json_object_get(json_array_get(l->list, l->size - 1), "id"));
}

/* Without a pageSize everything is on page 1, and the reply is the specification's to the letter. */
void rest_list_volumes(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct listing l = {0};
	const struct tenant *t = rest_tenant(rest, r);
	if (!t || !rest_read_page(r, &l.size, &l.after))
		return;
	if (!l.after)
		l.after = "";
	l.list = json_array();
	volumes_each(rest->config.volumes, t->prefix, collect, &l);
	json_t *o = json_pack("{s:o}", "volumes", l.list);
	if (http_query(r, "pageSize"))
		json_object_set_new(o, "next_page_token", l.next ? l.next : json_null());
	http_reply_json(r, 200, o);
}

/* By id or name. False: it has replied. */
static bool find(struct rest *rest, struct http_request *r, struct volume_info *v)
{
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return false;
	const char *name = http_param(r, "volume");
	if (volumes_find(rest->config.volumes, t->prefix, name, v))
		return true;
	http_reply_error(r, HTTP_NOT_FOUND, "no volume %.128s", name);
	return false;
}

void rest_get_volume(void *app, struct http_request *r)
{
	struct volume_info v;
	if (find(app, r, &v))
		http_reply_json(r, 200, volume_json(&v));
}

static void on_removed(void *arg, int status, const struct err *e)
{
	if (status < 0)
		reply_failure(arg, status, e);
	else
		http_reply_empty(arg, 204);
}

/* force: one that is not there, or goes already, is removed well. It takes no volume from a box. */
void rest_delete_volume(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct volume_info v;
	bool force;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t || http_query_flag(r, "force", &force) < 0)
		return;
	if (force && !volumes_find(rest->config.volumes, t->prefix, http_param(r, "volume"), &v)) {
		http_reply_empty(r, 204);
		return;
	}
	if (!find(rest, r, &v))
		return;
	const char *user = boxes_volume_user(rest->config.boxes, v.id);
	if (user)
		http_reply_error(r, HTTP_INVALID_STATE,
				 "volume %s is mounted by box %s: delete the box first", v.name, user);
	else
		volumes_remove(rest->config.volumes, t->prefix, v.id, on_removed, r);
}

/* ---- volumes of a box -------------------------------------------------------------------------------- */

/* Without doubled or trailing slashes. NULL, and a fault, where nothing can be mounted. */
static char *read_path(struct fields *f)
{
	const char *path = fields_string(f, "guest_path", 1, 4095);
	char *out = path ? malloc(strlen(path) + 2) : NULL, *to = out;
	static const char *const kernels[] = {"/proc", "/sys", "/dev"};
	bool dots = false;
	if (!out) {
		fields_fault(f, "guest_path", "is missing");
		return NULL;
	}
	for (const char *p = path; *p;) {
		p += strspn(p, "/");
		size_t len = strcspn(p, "/");
		dots |= (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.');
		if (!len)
			break;
		*to++ = '/';
		memcpy(to, p, len);
		to += len;
		p += len;
	}
	*to = '\0';
	if (path[0] != '/')
		fields_fault(f, "guest_path", "must be absolute");
	else if (dots)
		fields_fault(f, "guest_path", "must not hold . or ..");
	else if (!*out)
		fields_fault(f, "guest_path", "must not be the root");
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
		size_t len = strlen(kernels[i]);
		if (strncmp(out, kernels[i], len) == 0 && (out[len] == '/' || !out[len]))
			fields_fault(f, "guest_path", "must not be in %s", kernels[i]);
	}
	return out;
}

static void read_mount(struct fields *parent, json_t *object, struct volume_mount *m)
{
	struct fields f;
	fields_open(&f, object, "volumes.");
	/* Of the 2026-02 dialect. Folders of the host are the admin's. */
	if (fields_any(&f, "host_path"))
		fields_refuse(&f, "host_path", "is not supported: name a managed_volume");
	const char *volume = fields_string(&f, "managed_volume", 1, 128);
	if (!volume)
		fields_fault(&f, "managed_volume", "is missing: the id or name of a volume");
	m->volume = strdup(volume ? volume : "");
	m->guest_path = read_path(&f);
	m->read_only = fields_bool(&f, "read_only", false);
	fields_close(parent, &f);
}

static int by_path(const void *a, const void *b)
{
	const struct volume_mount *x = a, *y = b;
	return strcmp(x->guest_path, y->guest_path);
}

/* A mount below another comes after it, in whatever order they are given. */
static void order(struct fields *f, struct box_settings *s)
{
	for (size_t i = 0; i < s->n_volumes; i++)
		if (!s->volumes[i].volume || !s->volumes[i].guest_path)
			return; /* there is a fault, or no memory */
	qsort(s->volumes, s->n_volumes, sizeof *s->volumes, by_path);
	for (size_t i = 1; i < s->n_volumes; i++)
		if (by_path(&s->volumes[i - 1], &s->volumes[i]) == 0)
			fields_fault(f, "volumes", "has two at %.128s", s->volumes[i].guest_path);
}

void rest_read_volumes(struct fields *f, struct box_settings *s)
{
	json_t *array = fields_array(f, "volumes"), *item;
	size_t i, n = json_array_size(array);
	if (n > BOX_VOLUMES_MAX)
		fields_fault(f, "volumes", "must be %d at most", BOX_VOLUMES_MAX);
	if (!n || n > BOX_VOLUMES_MAX)
		return;
	s->volumes = calloc(n, sizeof *s->volumes);
	json_array_foreach (array, i, item) {
		if (!s->volumes || !json_is_object(item)) {
			fields_fault(f, "volumes", "must be an array of objects");
			return;
		}
		read_mount(f, item, &s->volumes[s->n_volumes++]);
	}
	order(f, s);
}

json_t *rest_volumes_json(const struct box_settings *s)
{
	json_t *list = json_array();
	for (size_t i = 0; i < s->n_volumes; i++) {
		const struct volume_mount *m = &s->volumes[i];
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:b}", "managed_volume", m->volume, "guest_path",
						m->guest_path, "read_only", (int)m->read_only));
	}
	return list;
}
