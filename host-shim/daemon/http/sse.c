#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define OVERHEAD 96 /* "event: " name "\nid: " 20 digits "\ndata: {\"data\":\"" … "\"}\n\n" */

struct sse {
	struct http_stream *stream; /* NULL until it is first asked */
	const struct sse_source *source;
	void *arg;
	uv_timer_t silence;
	char *at;
	size_t room;
	bool last;
	bool comment_due;
};

/* libmicrohttpd does not notice a client that leaves while its connection is suspended; the comment's write
 * does. */
static void on_silence(uv_timer_t *t)
{
	struct sse *s = t->data;
	s->comment_due = true;
	if (s->stream)
		http_stream_wake(s->stream);
}

static void put(struct sse *s, const char *text, size_t len)
{
	memcpy(s->at, text, len);
	s->at += len;
	s->room -= len;
}

static ssize_t on_room(void *arg, struct http_stream *stream, uint8_t *buf, size_t max)
{
	struct sse *s = arg;
	char *start = (char *)buf;
	s->stream = stream;
	if (s->last)
		return HTTP_SOURCE_END;
	/* MHD lends what the request's head has left of the connection's memory: with a huge head, too
	 * little. */
	if (max < SSE_ROOM_MIN + OVERHEAD)
		return HTTP_SOURCE_FAILED;
	s->at = start;
	s->room = max;
	s->last = !s->source->fill(s->arg, s);
	if (s->at == start && s->comment_due)
		put(s, ":\n\n", 3);
	if (s->at == start)
		return s->last ? HTTP_SOURCE_END : 0;
	s->comment_due = false;
	uv_timer_again(&s->silence);
	return s->at - start;
}

static void sse_free(uv_handle_t *h)
{
	free(h->data);
}

static void on_end(void *arg)
{
	struct sse *s = arg;
	s->source->closed(s->arg);
	uv_close((uv_handle_t *)&s->silence, sse_free);
}

void http_reply_sse(struct http_request *r, const struct sse_source *source, void *arg)
{
	static const struct http_source stream = {.fill = on_room, .closed = on_end};
	struct sse *s = calloc(1, sizeof *s);
	if (!s) {
		source->closed(arg);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	s->source = source;
	s->arg = arg;
	uv_timer_init(r->server->config.loop, &s->silence);
	s->silence.data = s;
	unsigned ms = r->server->config.ping_ms;
	uv_timer_start(&s->silence, on_silence, ms, ms);
	http_set_header(r, "Content-Type", "text/event-stream");
	http_set_header(r, "Cache-Control", "no-store");
	http_set_header(r, "X-Accel-Buffering", "no");
	http_reply_stream(r, 200, HTTP_LENGTH_UNKNOWN, &stream, s);
}

void sse_wake(struct sse *s)
{
	http_stream_wake(s->stream);
}

size_t sse_room(const struct sse *s)
{
	return s->room <= OVERHEAD ? 0 : (s->room - OVERHEAD) / 4 * 3;
}

static void put_head(struct sse *s, const char *name, uint64_t position, const char *tail)
{
	char head[OVERHEAD];
	int len = snprintf(head, sizeof head, "event: %.24s\nid: %llu\ndata: %s", name,
			   (unsigned long long)position, tail);
	put(s, head, (size_t)len);
}

void sse_put_data(struct sse *s, const char *name, uint64_t position, const uint8_t *data, size_t len)
{
	put_head(s, name, position, "{\"data\":\"");
	base64_encode_raw(s->at, len, data);
	s->at += BASE64_ENCODE_RAW_LENGTH(len);
	s->room -= BASE64_ENCODE_RAW_LENGTH(len);
	put(s, "\"}\n\n", 4);
}

int sse_put_json(struct sse *s, const char *name, uint64_t position, json_t *data)
{
	char text[16384]; /* two paths of Linux fit */
	size_t len = json_dumpb(data, text, sizeof text, JSON_COMPACT);
	if (len > sizeof text)
		len = 0; /* larger than any event of ours: an empty one still has its name and position */
	if (s->room < OVERHEAD + len + 2)
		return -ENOSPC;
	put_head(s, name, position, "");
	put(s, text, len);
	put(s, "\n\n", 2);
	return 0;
}
