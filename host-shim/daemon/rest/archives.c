#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- export ---- */

struct export
{
	struct http_request *r; /* until it is replied to */
	struct archive_out *out;
	struct http_stream *stream; /* NULL until it was first asked for bytes */
	char name[128];
};

static void on_closed(void *arg)
{
	struct export *x = arg;
	archive_out_close(x->out);
	free(x);
}

static ssize_t on_room(void *arg, struct http_stream *s, uint8_t *buf, size_t max)
{
	struct export *x = arg;
	struct failure f;
	size_t len = 0;
	x->stream = s;
	switch (archive_out_read(x->out, buf, max, &len, &f)) {
	case ARCHIVE_DATA:
		return (ssize_t)len;
	case ARCHIVE_WAIT:
		return 0;
	case ARCHIVE_END:
		return HTTP_SOURCE_END;
	default:
		return HTTP_SOURCE_FAILED;
	}
}

static void on_export_wake(void *arg)
{
	static const struct http_source source = {.fill = on_room, .closed = on_closed};
	struct export *x = arg;
	struct http_request *r = x->r;
	struct failure f;
	char disposition[192];
	size_t len;
	if (!r) {
		if (x->stream)
			http_stream_wake(x->stream);
		return;
	}
	enum archive_state state = archive_out_read(x->out, NULL, 0, &len, &f);
	if (state == ARCHIVE_WAIT)
		return;
	x->r = NULL;
	if (state == ARCHIVE_DATA) {
		snprintf(disposition, sizeof disposition, "attachment; filename=\"%s.boxlite\"", x->name);
		http_set_header(r, "Content-Type", "application/octet-stream");
		http_set_header(r, "Content-Disposition", disposition);
		http_reply_stream(r, 200, HTTP_LENGTH_UNKNOWN, &source, x);
		return;
	}
	rest_reply_failure(r, &f);
	on_closed(x);
}

static void on_export_gone(void *arg)
{
	struct export *x = arg;
	http_reply_empty(x->r, 204);
	on_closed(x);
}

void rest_export_box(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct box *b = rest_box(rest, r);
	struct fields f;
	size_t len;
	if (!b)
		return;
	const uint8_t *body = http_body(r, &len);
	fields_parse(&f, body, len);
	bool ok = rest_fields_ok(r, &f);
	fields_finish(&f);
	if (!ok)
		return;
	struct export *x = calloc(1, sizeof *x);
	if (!x) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	struct box_info i;
	box_get_info(b, &i);
	x->r = r;
	snprintf(x->name, sizeof x->name, "%s", i.name ? i.name : i.id);
	x->out = archive_out(rest->config.archives, b, on_export_wake, x);
	http_on_gone(r, on_export_gone, x);
	on_export_wake(x);
}

/* ---- import ---- */

struct import {
	struct rest *rest;
	struct http_request *r;
	struct archive_in *in;
};

static void import_free(struct import *m)
{
	archive_in_close(m->in);
	free(m);
}

static void on_import_wake(void *arg)
{
	struct import *m = arg;
	struct box *b;
	struct failure f;
	enum archive_state state = archive_in_result(m->in, &b, &f);
	if (state == ARCHIVE_WAIT) {
		http_receive_more(m->r);
		return;
	}
	rest_box_created(m->r, b, state == ARCHIVE_FAILED ? &f : NULL);
	import_free(m);
}

/* It took its time: others came, and the prefix may have gone and be somebody else's next. */
static bool may_add(void *arg, const char *prefix, struct failure *f)
{
	const struct import *m = arg;
	return rest_may_add(m->rest, prefix, f);
}

static size_t on_body(void *arg, const uint8_t *bytes, size_t n)
{
	struct import *m = arg;
	return archive_in_write(m->in, bytes, n);
}

static void on_body_end(void *arg)
{
	struct import *m = arg;
	archive_in_write_end(m->in);
}

static void on_import_gone(void *arg)
{
	struct import *m = arg;
	http_reply_empty(m->r, 204);
	import_free(m);
}

void rest_import_box(void *app, struct http_request *r)
{
	static const struct http_sink sink = {.take = on_body, .end = on_body_end};
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	const char *name = http_query(r, "name");
	if (!t || (name && !rest_box_name_ok(r, name)) || !rest_has_room(rest, r, t->prefix))
		return;
	if (name && boxes_find(rest->config.boxes, t->prefix, name)) {
		http_reply_error(r, HTTP_ALREADY_EXISTS, "a box named %s exists", name);
		return;
	}
	struct import *m = calloc(1, sizeof *m);
	if (!m) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	m->rest = rest;
	m->r = r;
	m->in = archive_in(rest->config.archives, t->prefix, name, may_add, on_import_wake, m);
	http_receive(r, &sink, m);
	http_on_gone(r, on_import_gone, m);
	on_import_wake(m);
}
