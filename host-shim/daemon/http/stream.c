#include <stdlib.h>

#include "internal.h"

#define BLOCK (28u << 10) /* at once: of a connection's memory no more is touched, and thousands may read */

struct http_stream {
	struct http_request *r; /* MHD's hold keeps it while the response lives */
	const struct http_source *source;
	void *arg;
	bool woken; /* http_stream_wake was called while nobody slept */
};

static ssize_t on_room(void *cls, uint64_t position, char *buf, size_t max)
{
	(void)position;
	struct http_stream *s = cls;
	ssize_t n;
	do {
		s->woken = false;
		n = s->source->fill(s->arg, s, (uint8_t *)buf, max < BLOCK ? max : BLOCK);
	} while (n == 0 && s->woken);
	if (n == HTTP_SOURCE_END)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n < 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	connection_expect(s->r->connection, n > 0 ? DEADLINE_STREAM : DEADLINE_NONE);
	if (n == 0)
		request_suspend(s->r);
	return n;
}

static void on_end(void *cls)
{
	struct http_stream *s = cls;
	s->source->closed(s->arg);
	free(s);
}

void http_reply_stream(struct http_request *r, unsigned status, uint64_t length,
		       const struct http_source *source, void *arg)
{
	struct http_stream *s = r->mhd ? calloc(1, sizeof *s) : NULL;
	uint64_t size = length == HTTP_LENGTH_UNKNOWN ? MHD_SIZE_UNKNOWN : length;
	struct MHD_Response *response =
		s ? MHD_create_response_from_callback(size, BLOCK, on_room, s, on_end) : NULL;
	if (!response) {
		free(s);
		source->closed(arg);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	s->r = r;
	s->source = source;
	s->arg = arg;
	r->streams = true;
	request_answer(r, status, response);
}

void http_stream_wake(struct http_stream *s)
{
	s->woken = true;
	request_resume(s->r);
}
