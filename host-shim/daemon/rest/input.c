#include <strings.h>

#include "internal.h"

#define PIECE (1u << 20) /* what execution_write takes at once */

/* POST …/input: answered when the agent has acknowledged the bytes. */
void rest_input(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (!x)
		return;
	const char *text = http_header(r, "X-Close-Stdin");
	bool close = text && strcasecmp(text, "true") == 0;
	if (text && !close && strcasecmp(text, "false") != 0) {
		http_reply_error(r, HTTP_INVALID_ARGUMENT, "X-Close-Stdin must be true or false");
		return;
	}
	size_t len;
	const uint8_t *body = http_body(r, &len);
	/* All of it or nothing: a client could not know which part was taken. */
	if (len && execution_stdin_queued(x) + len > EXECUTION_STDIN_MAX) {
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED,
				 "%zu bytes of input wait already; at most %u may", execution_stdin_queued(x),
				 EXECUTION_STDIN_MAX);
		return;
	}
	if (!len) {
		if (close)
			execution_close_stdin(x);
		http_reply_empty(r, 204);
		return;
	}
	for (; len > PIECE; body += PIECE, len -= PIECE)
		execution_write(x, body, PIECE, NULL, NULL);
	/* The last piece is acknowledged after the others. Its reply may come at once and end the request. */
	x = execution_ref(x);
	execution_write(x, body, len, rest_done, r);
	if (close)
		execution_close_stdin(x);
	execution_unref(x);
}
