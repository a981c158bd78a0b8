#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/auth/scopes.h"
#include "internal.h"

/* ---- what is here ---------------------------------------------------------------------------------- */

static json_t *strings_json(char *const *list)
{
	json_t *out = list ? json_array() : json_null();
	for (; list && *list; list++)
		json_array_append_new(out, json_string(*list));
	return out;
}

static json_t *image_json(const struct image_info *i)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:b, s:i}", "reference", i->reference, "repository",
			 i->repository, "tag", i->tag, "id", i->digest, "cached_at", rest_time(i->cached_ms),
			 "size_bytes", (json_int_t)i->size, "builtin", (int)i->builtin, "boxes",
			 (int)i->boxes);
}

static json_t *image_json_whole(const struct image_info *i)
{
	json_t *o = image_json(i);
	const struct image_config *c = i->config;
	json_object_set_new(o, "config",
			    json_pack("{s:o, s:o, s:o, s:s?, s:s?}", "entrypoint",
				      strings_json(c->entrypoint), "cmd", strings_json(c->cmd), "env",
				      strings_json(c->env), "user", c->user, "working_dir", c->working_dir));
	return o;
}

struct listing {
	json_t *list;
	const char *after; /* the reference that the last page ended with; NULL at first */
	uint64_t size;
	bool more;
};

/* The built-in image comes first, the others in the order of their names. */
static void collect(void *arg, const struct image_info *i)
{
	struct listing *l = arg;
	if (l->after && (i->builtin || strcmp(i->reference, l->after) <= 0))
		return;
	if (json_array_size(l->list) < l->size)
		json_array_append_new(l->list, image_json(i));
	else
		l->more = true;
}

void rest_list_images(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct listing l = {0};
	const struct tenant *t = rest_tenant(rest, r);
	if (!t || !rest_query_int(r, "pageSize", 1, 1000, UINT64_MAX, &l.size))
		return;
	l.after = http_query(r, "pageToken");
	/* Which is before all of them, whatever it is called. */
	if (l.after && images_is_builtin(l.after))
		l.after = "";
	l.list = json_array();
	images_each(rest->config.images, t->prefix, collect, &l);
	json_t *last = json_array_get(l.list, json_array_size(l.list) - 1);
	json_t *next = l.more ? json_incref(json_object_get(last, "reference")) : json_null();
	http_reply_json(r, 200, json_pack("{s:o, s:o}", "images", l.list, "next_page_token", next));
}

/* NULL after a reply. */
static const struct tenant *find_image(struct rest *rest, struct http_request *r, struct image_info *i)
{
	struct err e = {0};
	const struct tenant *t = rest_tenant(rest, r);
	int status = t ? images_find(rest->config.images, t->prefix, http_param(r, "image"), i, &e) : 0;
	if (status < 0)
		http_reply_error(r, status == -ENOENT ? HTTP_NOT_FOUND : HTTP_INVALID_ARGUMENT, "%s", e.msg);
	return status < 0 ? NULL : t;
}

void rest_get_image(void *app, struct http_request *r)
{
	struct image_info i;
	if (find_image(app, r, &i))
		http_reply_json(r, 200, image_json_whole(&i));
}

void rest_head_image(void *app, struct http_request *r)
{
	struct image_info i;
	if (find_image(app, r, &i))
		http_reply_empty(r, 204);
}

/* ---- pulling --------------------------------------------------------------------------------------- */

struct pulling {
	struct http_request *r;  /* until it is replied to */
	struct image_want *want; /* until it is done */
	char *archive;           /* what is being received; NULL: nothing, or it is the pull's now */
	int fd;
	/* As events: */
	struct sse *sse; /* NULL until it is first asked for events */
	bool moved, failed;
	json_t *last; /* the event that ends it */
	uint64_t count;
};

static void pulling_free(struct pulling *p)
{
	images_unwant(p->want);
	if (p->archive)
		unlink(p->archive);
	free(p->archive);
	if (p->fd >= 0)
		close(p->fd);
	json_decref(p->last);
	free(p);
}

static struct pulling *pulling_create(struct http_request *r)
{
	struct pulling *p = calloc(1, sizeof *p);
	if (!p) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return NULL;
	}
	*p = (struct pulling){.r = r, .fd = -1, .moved = true};
	return p;
}

static json_t *progress_json(const struct pull_progress *g)
{
	static const char *const phases[] = {"resolving", "downloading", "unpacking"};
	return json_pack("{s:s, s:I, s:I, s:i, s:i}", "phase", phases[g->phase], "bytes",
			 (json_int_t)g->bytes, "bytes_total", (json_int_t)g->bytes_total, "layers",
			 (int)g->layers, "layers_total", (int)g->layers_total);
}

static bool on_events(void *arg, struct sse *s)
{
	struct pulling *p = arg;
	struct pull_progress g;
	p->sse = s;
	if (sse_room(s) < SSE_ROOM_MIN)
		return true;
	if (p->last)
		return sse_put_json(s, p->failed ? "error" : "done", p->count + 1, p->last) < 0;
	if (!p->moved)
		return true;
	image_want_progress(p->want, &g);
	json_t *event = progress_json(&g);
	p->moved = sse_put_json(s, "progress", ++p->count, event) < 0;
	json_decref(event);
	return true;
}

static void on_events_closed(void *arg)
{
	pulling_free(arg);
}

static void on_progressed(void *arg)
{
	struct pulling *p = arg;
	p->moved = true;
	if (p->sse)
		sse_wake(p->sse);
}

static void on_done(void *arg, const struct image_info *i, const struct failure *f)
{
	struct pulling *p = arg;
	p->want = NULL;
	if (p->r) {
		if (f)
			rest_reply_failure(p->r, f);
		else
			http_reply_json(p->r, 200, image_json_whole(i));
		pulling_free(p);
		return;
	}
	p->failed = f;
	p->last = f ? json_pack("{s:o, s:s}", "message", rest_text(f->message, strlen(f->message)), "code",
				rest_failure_code(f))
		    : image_json_whole(i);
	if (p->sse)
		sse_wake(p->sse);
}

static void on_gone(void *arg)
{
	struct pulling *p = arg;
	http_reply_empty(p->r, 204);
	pulling_free(p);
}

/* A place on this host: its files are the admin's to name, not a tenant's. */
static bool may_use_transport(struct rest *rest, struct http_request *r, struct fields *f,
			      const char *transport)
{
	static const char *const known[] = {"oci:", "oci-archive:", "docker-archive:", "docker-daemon:"};
	struct principal caller;
	bool is_known = false;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		is_known |= strncmp(transport, known[i], strlen(known[i])) == 0;
	if (!is_known)
		fields_fault(f, "transport",
			     "must begin with oci:, oci-archive:, docker-archive: or docker-daemon:");
	if (auth_principal(rest->config.auth, r, &caller) && caller.scopes & SCOPE_ADMIN)
		return true;
	http_reply_error(
		r, HTTP_PERMISSION_DENIED,
		"transport names a place on the host, which only its admin may do; others load archives");
	return false;
}

static bool wants_events(struct http_request *r)
{
	const char *accept = http_header(r, "Accept");
	return accept && strstr(accept, "text/event-stream");
}

static void begin_pull(struct rest *rest, struct pulling *p, const struct image_request *q)
{
	static const struct sse_source source = {.fill = on_events, .closed = on_events_closed};
	struct http_request *r = p->r;
	struct failure f;
	p->want = images_pull(rest->config.images, q, &f);
	if (!p->want) {
		rest_reply_failure(r, &f);
		pulling_free(p);
	} else if (wants_events(r)) {
		p->r = NULL;
		http_reply_sse(r, &source, p);
	} else {
		http_on_gone(r, on_gone, p);
	}
}

/* Which needs no registry: as if it had just come. */
static void reply_builtin(struct rest *rest, struct http_request *r, const struct image_request *q)
{
	static const struct sse_source source = {.fill = on_events, .closed = on_events_closed};
	struct image_info i;
	struct err e;
	struct pulling *p;
	images_find(rest->config.images, q->prefix, q->reference, &i, &e);
	if (!wants_events(r)) {
		http_reply_json(r, 200, image_json_whole(&i));
	} else if ((p = pulling_create(r))) {
		p->r = NULL;
		p->last = image_json_whole(&i);
		http_reply_sse(r, &source, p);
	}
}

static void read_credentials(struct fields *f, struct image_request *q)
{
	json_t *object = fields_object(f, "auth");
	if (!object)
		return;
	struct fields a;
	fields_open(&a, object, "auth.");
	q->username = fields_string(&a, "username", 1, 255);
	q->password = fields_string(&a, "password", 1, 65535);
	if (!q->username || strchr(q->username, ':'))
		fields_fault(&a, "username", "must be there, without a colon");
	if (!q->password)
		fields_fault(&a, "password", "is missing");
	fields_close(f, &a);
}

void rest_pull_image(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct fields f;
	size_t len;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return;
	if (wants_events(r) && http_header(r, "Idempotency-Key")) {
		http_reply_error(r, HTTP_INVALID_ARGUMENT, "events are not kept under an Idempotency-Key");
		return;
	}
	const uint8_t *body = http_body(r, &len);
	fields_parse(&f, body, len);
	struct image_request q = {.prefix = t->prefix, .progressed = on_progressed, .done = on_done};
	q.reference = fields_string(&f, "reference", 1, 512);
	q.transport = fields_string(&f, "transport", 1, 4095);
	read_credentials(&f, &q);
	if (!q.reference)
		fields_fault(&f, "reference", "is missing");
	bool allowed = !q.transport || may_use_transport(rest, r, &f, q.transport);
	if (!allowed || !rest_fields_ok(r, &f)) {
		fields_finish(&f);
		return;
	}
	if (images_is_builtin(q.reference)) {
		reply_builtin(rest, r, &q);
	} else {
		struct pulling *p = pulling_create(r);
		q.arg = p;
		if (p)
			begin_pull(rest, p, &q);
	}
	fields_finish(&f);
}

/* ---- loading: the archive is the request's body ---- */

struct loading {
	struct pulling *pulling;
	struct rest *rest;
	char *prefix, *reference;
};

static void loading_free(struct loading *l)
{
	free(l->prefix);
	free(l->reference);
	free(l);
}

static void fail_load(struct loading *l, int errnum)
{
	struct failure f = {.kind = errnum == ENOSPC || errnum == EDQUOT ? FAIL_NO_SPACE : FAIL_INTERNAL};
	snprintf(f.message, sizeof f.message, "keeping the archive: %s", strerror(errnum));
	rest_reply_failure(l->pulling->r, &f);
	pulling_free(l->pulling);
	loading_free(l);
}

static size_t on_archive(void *arg, const uint8_t *bytes, size_t n)
{
	struct loading *l = arg;
	for (size_t at = 0; at < n;) {
		ssize_t done = write(l->pulling->fd, bytes + at, n - at);
		if (done < 0) {
			fail_load(l, errno);
			return n;
		}
		at += (size_t)done;
	}
	return n;
}

static void on_archive_end(void *arg)
{
	struct loading *l = arg;
	struct pulling *p = l->pulling;
	struct image_request q = {.prefix = l->prefix,
				  .reference = l->reference,
				  .archive = p->archive,
				  .progressed = on_progressed,
				  .done = on_done,
				  .arg = p};
	struct rest *rest = l->rest;
	if (tenants_find(auth_tenants(rest->config.auth), l->prefix)) {
		begin_pull(rest, p, &q);
	} else {
		http_reply_error(p->r, HTTP_NOT_FOUND, "the prefix was removed meanwhile");
		pulling_free(p);
	}
	loading_free(l);
}

static void on_archive_gone(void *arg)
{
	struct loading *l = arg;
	http_reply_empty(l->pulling->r, 204);
	pulling_free(l->pulling);
	loading_free(l);
}

void rest_load_image(void *app, struct http_request *r)
{
	static const struct http_sink sink = {.take = on_archive, .end = on_archive_end};
	struct rest *rest = app;
	struct err e = {0};
	struct reference parsed;
	const struct tenant *t = rest_tenant(rest, r);
	const char *reference = http_query(r, "reference");
	if (!t)
		return;
	if (!reference || reference_parse(&parsed, reference, &e) < 0) {
		http_reply_error_with(
			r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "reference"), "%s",
			reference ? e.msg : "reference is missing: what the image shall be called");
		return;
	}
	struct pulling *p = pulling_create(r);
	struct loading *l = p ? calloc(1, sizeof *l) : NULL;
	if (!p)
		return;
	if (l)
		*l = (struct loading){.pulling = p,
				      .rest = rest,
				      .prefix = strdup(t->prefix),
				      .reference = strdup(reference)};
	if (!l || !l->prefix || !l->reference) {
		if (l)
			loading_free(l);
		pulling_free(p);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	p->fd = images_open_archive(rest->config.images, &p->archive, &e);
	if (p->fd < 0) {
		fail_load(l, e.errnum);
		return;
	}
	http_on_gone(r, on_archive_gone, l);
	http_receive(r, &sink, l);
}

/* ---- pulls that are under way ---- */

static void add_pull(void *arg, const struct image_pull_info *i)
{
	json_t *o = progress_json(&i->progress);
	json_object_set_new(o, "id", json_string(i->id));
	json_object_set_new(o, "reference", json_string(i->reference));
	json_object_set_new(o, "started_at", rest_time(i->started_ms));
	json_array_append_new(arg, o);
}

void rest_list_pulls(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return;
	json_t *list = json_array();
	images_each_pull(rest->config.images, t->prefix, add_pull, list);
	http_reply_json(r, 200, json_pack("{s:o}", "pulls", list));
}

void rest_cancel_pull(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	if (t && images_cancel(rest->config.images, t->prefix, http_param(r, "id")) < 0)
		http_reply_error(r, HTTP_NOT_FOUND, "no pull %.64s: it has ended, or never was",
				 http_param(r, "id"));
	else if (t)
		http_reply_empty(r, 204);
}

/* ---- removing -------------------------------------------------------------------------------------- */

static void on_deleted(void *arg, unsigned names, uint64_t bytes, const struct failure *f)
{
	(void)names;
	(void)bytes;
	rest_done(arg, f);
}

void rest_delete_image(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	if (t)
		images_delete(rest->config.images, t->prefix, http_param(r, "image"), on_deleted, r);
}

static void on_pruned(void *arg, unsigned names, uint64_t bytes, const struct failure *f)
{
	if (f)
		rest_reply_failure(arg, f);
	else
		http_reply_json(arg, 200,
				json_pack("{s:i, s:I}", "references_deleted", (int)names, "bytes_reclaimed",
					  (json_int_t)bytes));
}

void rest_prune_images(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct fields f;
	size_t len;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return;
	const uint8_t *body = http_body(r, &len);
	fields_parse(&f, body, len);
	bool all = fields_bool(&f, "all", false);
	if (rest_fields_ok(r, &f))
		images_prune(rest->config.images, t->prefix, all, on_pruned, r);
	fields_finish(&f);
}
