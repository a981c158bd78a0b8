#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define SILENCE_MS 15000
#define BLOCK (32u << 10)
#define OVERHEAD 96 /* "event: " name "\nid: " 20 digits "\ndata: {\"data\":\"" … "\"}\n\n" */

struct sse {
	struct http_request *r; /* MHD's hold keeps it while the response lives */
	const struct sse_source *source;
	void *arg;
	uv_timer_t silence;
	char *at;
	size_t room;
	bool woken; /* sse_wake was called while nobody slept */
	bool last;
	bool comment_due;
};

/* libmicrohttpd does not notice a client that leaves while its connection is suspended; the comment's write
 * does. */
static void on_silence(uv_timer_t *t)
{
	struct sse *s = t->data;
	s->comment_due = true;
	request_resume(s->r);
}

static void put(struct sse *s, const char *text, size_t len)
{
	memcpy(s->at, text, len);
	s->at += len;
	s->room -= len;
}

static ssize_t on_room(void *cls, uint64_t position, char *buf, size_t max)
{
	(void)position;
	struct sse *s = cls;
	if (s->last)
		return MHD_CONTENT_READER_END_OF_STREAM;
	/* MHD lends what the request's head has left of the connection's memory: with a huge head, too
	 * little. */
	if (max < SSE_ROOM_MIN + OVERHEAD)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	s->at = buf;
	s->room = max;
	do {
		s->woken = false;
		s->last = !s->source->fill(s->arg, s);
	} while (s->woken && s->at == buf && !s->last);
	if (s->at == buf && s->comment_due && max >= 3)
		put(s, ":\n\n", 3);
	if (s->at == buf && s->last)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (s->at == buf) {
		request_suspend(s->r);
		return 0;
	}
	s->comment_due = false;
	uv_timer_again(&s->silence);
	return s->at - buf;
}

static void sse_free(uv_handle_t *h)
{
	free(h->data);
}

static void on_end(void *cls)
{
	struct sse *s = cls;
	s->source->closed(s->arg);
	uv_close((uv_handle_t *)&s->silence, sse_free);
}

void http_reply_sse(struct http_request *r, const struct sse_source *source, void *arg)
{
	struct sse *s = r->mhd ? calloc(1, sizeof *s) : NULL;
	struct MHD_Response *response =
		s ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_room, s, on_end) : NULL;
	if (!response) {
		free(s);
		source->closed(arg);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	s->r = r;
	s->source = source;
	s->arg = arg;
	uv_timer_init(r->server->config.loop, &s->silence);
	s->silence.data = s;
	uv_timer_start(&s->silence, on_silence, SILENCE_MS, SILENCE_MS);
	r->streams = true;
	MHD_add_response_header(response, "Content-Type", "text/event-stream");
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "X-Accel-Buffering", "no");
	request_answer(r, 200, response);
}

void sse_wake(struct sse *s)
{
	s->woken = true;
	request_resume(s->r);
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
