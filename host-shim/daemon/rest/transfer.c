#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- up: the request's body goes to the agent as fast as it takes it ---- */

struct upload {
	struct http_request *r;
	struct box_bulk *op;
	bool answered, body_ended;
};

static void upload_free(struct upload *u)
{
	box_bulk_close(u->op);
	free(u);
}

static void on_upload_wake(void *arg)
{
	struct upload *u = arg;
	struct box_bulk_item item;
	box_bulk_next(u->op, 0, &item);
	if (item.kind == BULK_ANSWER) {
		u->answered = true;
		if (u->body_ended)
			box_bulk_send_end(u->op);
		box_bulk_next(u->op, 0, &item);
	}
	if (item.kind == BULK_END) {
		http_reply_empty(u->r, 204);
		upload_free(u);
	} else if (item.kind == BULK_FAILED) {
		rest_reply_failure(u->r, &item.failure);
		upload_free(u);
	} else if (u->answered && !u->body_ended) {
		http_receive_more(u->r);
	}
}

static size_t on_body(void *arg, const uint8_t *bytes, size_t n)
{
	struct upload *u = arg;
	size_t taken = 0, room;
	/* Until there is no room: only then are we told when there is some again. */
	while (taken < n && (room = box_bulk_room(u->op)) > 0) {
		size_t piece = n - taken < room ? n - taken : room;
		box_bulk_send(u->op, bytes + taken, piece);
		taken += piece;
	}
	return taken;
}

static void on_body_end(void *arg)
{
	struct upload *u = arg;
	u->body_ended = true;
	if (u->answered)
		box_bulk_send_end(u->op);
}

/* What is left of the connection's end tells the agent to give it up. */
static void on_upload_gone(void *arg)
{
	struct upload *u = arg;
	http_reply_empty(u->r, 204);
	upload_free(u);
}

void rest_upload(struct http_request *r, struct box *b, const Tenon__BulkRequest *req)
{
	static const struct http_sink sink = {.take = on_body, .end = on_body_end};
	struct upload *u = calloc(1, sizeof *u);
	if (!u) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	u->r = r;
	u->op = box_bulk(b, req, true, on_upload_wake, u);
	http_receive(r, &sink, u);
	http_on_gone(r, on_upload_gone, u);
	on_upload_wake(u);
}

/* ---- down: the agent sends as fast as the client takes it ---- */

struct download {
	struct http_request *r; /* until it is replied to */
	struct box_bulk *op;
	struct http_stream *stream; /* NULL until it was first asked for bytes */
	rest_head_fn head;
};

static void on_download_closed(void *arg)
{
	struct download *d = arg;
	box_bulk_close(d->op);
	free(d);
}

static ssize_t on_room(void *arg, struct http_stream *s, uint8_t *buf, size_t max)
{
	struct download *d = arg;
	struct box_bulk_item item;
	d->stream = s;
	box_bulk_next(d->op, max, &item);
	switch (item.kind) {
	case BULK_DATA:
		memcpy(buf, item.bulk.data, item.bulk.len);
		return (ssize_t)item.bulk.len;
	case BULK_WAIT:
		return 0;
	case BULK_END:
		return HTTP_SOURCE_END;
	default:
		return HTTP_SOURCE_FAILED;
	}
}

static void on_download_wake(void *arg)
{
	static const struct http_source source = {.fill = on_room, .closed = on_download_closed};
	struct download *d = arg;
	struct http_request *r = d->r;
	struct box_bulk_item item;
	if (!r) {
		if (d->stream)
			http_stream_wake(d->stream);
		return;
	}
	box_bulk_next(d->op, 0, &item);
	if (item.kind == BULK_WAIT)
		return;
	unsigned status = 200;
	uint64_t length = HTTP_LENGTH_UNKNOWN;
	d->r = NULL;
	if (item.kind == BULK_ANSWER && (!d->head || d->head(r, item.bulk.answer, &status, &length))) {
		http_reply_stream(r, status, length, &source, d);
		return;
	}
	if (item.kind == BULK_FAILED)
		rest_reply_failure(r, &item.failure);
	on_download_closed(d);
}

static void on_download_gone(void *arg)
{
	struct download *d = arg;
	http_reply_empty(d->r, 204);
	on_download_closed(d);
}

void rest_download(struct http_request *r, struct box *b, const Tenon__BulkRequest *req, rest_head_fn head)
{
	struct download *d = calloc(1, sizeof *d);
	if (!d) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	d->r = r;
	d->head = head;
	d->op = box_bulk(b, req, true, on_download_wake, d);
	http_on_gone(r, on_download_gone, d);
	on_download_wake(d);
}
