#include "internal.h"

#include <ctype.h>
#include <nettle/base16.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "handshake.h"
#include "peer.h"

#define DISCARD_MAX \
	(128u << 20) /* of a body that will not be read: so that the client gets to see the reply */

/* ---- the head ---- */

struct head {
	unsigned lengths, encodings, hosts;
	const char *length, *encoding, *expect, *id;
	bool malformed;
	const char *end; /* of the value before, in MHD's buffer */
};

static bool is_token(const char *s, size_t len)
{
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && (!s[i] || !strchr("!#$%&'*+-.^_`|~", s[i])))
			return false;
	return true;
}

/* MHD before 0.9.77 takes folded lines (gluing them to the *name*) and cuts values at a NUL. Both show in
 * that the lines do not lie one behind the other in its buffer any more. Newer versions refuse them. */
static bool lines_are_whole(struct head *h, const char *name, size_t name_len, const char *value,
			    size_t value_len)
{
	if (MHD_VERSION >= 0x00097700)
		return true;
	if (value < name + name_len + 1)
		return false;
	for (const char *p = name + name_len + 1; p < value; p++)
		if (*p != ' ' && *p != '\t')
			return false;
	bool follows = !h->end || (name > h->end && name <= h->end + 2);
	h->end = value + value_len;
	return follows;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
				 const char *value, size_t value_len)
{
	(void)kind;
	struct head *h = cls;
	if (!value) {
		h->malformed = true;
		return MHD_NO;
	}
	if (!is_token(name, name_len) || !lines_are_whole(h, name, name_len, value, value_len))
		h->malformed = true;
	for (size_t i = 0; i < value_len; i++)
		if (((unsigned char)value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f)
			h->malformed = true;
	if (strcasecmp(name, "Content-Length") == 0) {
		h->lengths++;
		h->length = value;
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		h->encodings++;
		h->encoding = value;
	} else if (strcasecmp(name, "Host") == 0) {
		h->hosts++;
	} else if (strcasecmp(name, "Expect") == 0) {
		h->expect = value;
	} else if (strcasecmp(name, "X-Request-Id") == 0) {
		h->id = value;
	}
	return MHD_YES;
}

void request_choose_id(char id[REQUEST_ID_SIZE], const char *asked)
{
	size_t len = asked ? strlen(asked) : 0;
	bool plain = len > 0 && len < REQUEST_ID_SIZE;
	for (size_t i = 0; plain && i < len; i++)
		plain = isalnum((unsigned char)asked[i]) || strchr("._-", asked[i]);
	if (plain) {
		strcpy(id, asked);
		return;
	}
	uint8_t random[16] = {0};
	if (getrandom(random, sizeof random, 0) < 0)
		abort(); /* Linux has them from its boot on, and a daemon without would be unsafe to go on */
	strcpy(id, "req_");
	base16_encode_update(id + 4, sizeof random, random);
	id[4 + 2 * sizeof random] = '\0';
}

/* Refuses what two parsers could frame differently. The connection ends with it, since nobody knows where the
 * next request would begin. */
static bool framing_is_clear(struct http_request *r, const struct head *h)
{
	const char *problem = NULL;
	if (h->malformed)
		problem = "a malformed header line";
	else if (h->lengths && h->encodings)
		problem = "both Content-Length and Transfer-Encoding";
	else if (h->lengths > 1)
		problem = "more than one Content-Length";
	else if (h->encodings > 1)
		problem = "more than one Transfer-Encoding";
	else if (h->encodings && strcasecmp(h->encoding, "chunked") != 0)
		problem = "a Transfer-Encoding other than chunked";
	else if (h->hosts > 1)
		problem = "more than one Host";
	if (!problem)
		return true;
	http_set_header(r, "Connection", "close");
	http_reply_error(r, HTTP_INVALID_ARGUMENT, "the request has %s", problem);
	return false;
}

static void find_route(struct http_request *r, const char *method)
{
	const struct http_config *c = &r->server->config;
	const char *const *prefixes = c->prefixes ? c->prefixes(c->app) : NULL;
	switch (router_find(c->routes, c->route_count, prefixes, method, r->path, &r->match)) {
	case ROUTER_FOUND:
		if (c->authorize && !r->match.route->open)
			c->authorize(c->app, r);
		return;
	case ROUTER_NO_METHOD:
		http_set_header(r, "Allow", r->match.allow);
		http_reply_error_with(r, 405, HTTP_UNSUPPORTED, NULL, "this path has no such method, only %s",
				      r->match.allow);
		return;
	case ROUTER_NO_PREFIX:
		http_reply_error(r, HTTP_NOT_FOUND,
				 "the first segment after /v1 is neither a resource nor a known prefix");
		return;
	case ROUTER_NO_PATH:
		http_reply_error(r, HTTP_NOT_FOUND, "no such path");
		return;
	case ROUTER_BAD_PATH:
		http_reply_error(r, HTTP_INVALID_ARGUMENT, "the path is malformed");
		return;
	}
}

static void refuse_long(struct http_request *r)
{
	http_reply_error_with(r, 413, HTTP_INVALID_ARGUMENT, NULL, "the body is larger than %zu bytes",
			      r->body_max);
}

static void call_handler(struct http_request *r)
{
	r->begun = true;
	r->holds++;
	http_handle(r);
}

static struct http_request *begin(struct http_server *s, struct MHD_Connection *mhd, const char *url,
				  const char *method)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *c = info ? info->socket_context : NULL;
	struct http_request *r = calloc(1, sizeof *r);
	if (!r || !c || !(r->path = strdup(url))) {
		free(r);
		return NULL;
	}
	r->server = s;
	r->connection = c;
	c->request = r;
	r->mhd = mhd;
	r->holds = 1;
	r->link = &s->requests;
	r->next = s->requests;
	if (r->next)
		r->next->link = &r->next;
	s->requests = r;

	struct head head = {0};
	MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, on_header, &head);
	request_choose_id(r->id, head.id);
	bool body = head.encodings || (head.length && strtoull(head.length, NULL, 10) > 0);
	connection_expect(c, body ? DEADLINE_BODY : DEADLINE_NONE);
	r->at_once = !framing_is_clear(r, &head);
	if (r->at_once)
		return r;
	if (s->config.greet)
		s->config.greet(s->config.app, r);
	find_route(r, method);
	r->body_max =
		r->match.route && r->match.route->body_max ? r->match.route->body_max : HTTP_BODY_DEFAULT;
	bool streams = r->match.route && r->match.route->streams;
	if (!r->response && !streams && head.length && strtoull(head.length, NULL, 10) > r->body_max)
		refuse_long(r);
	if (!r->response && streams)
		call_handler(r);
	/* A client that waits for 100 Continue is answered now. Any other is listened to first: it would not
	 * see the reply while it writes. */
	r->at_once = r->response && body && head.expect;
	if (r->at_once)
		http_set_header(r, "Connection", "close");
	return r;
}

/* ---- the body ---- */

static bool take(struct http_request *r, const char *data, size_t len)
{
	bool unwanted = r->match.route && r->match.route->streams; /* and has no sink */
	if (!r->response && !unwanted && r->body_len + len > r->body_max)
		refuse_long(r);
	if (r->response || unwanted) {
		r->discarded += len;
		return r->discarded <= DISCARD_MAX;
	}
	if (r->body_len + len + 1 > r->body_size) {
		size_t size = r->body_size ? r->body_size : 1024;
		while (size < r->body_len + len + 1)
			size *= 2;
		uint8_t *bigger = realloc(r->body, size);
		if (!bigger)
			return false;
		r->body = bigger;
		r->body_size = size;
	}
	memcpy(r->body + r->body_len, data, len);
	r->body_len += len;
	r->body[r->body_len] = 0;
	return true;
}

/* Offers len bytes to the sink. With those that it leaves the connection waits, and so does the client. */
static size_t pass_on(struct http_request *r, const char *data, size_t len)
{
	size_t n = r->sink->take(r->sink_arg, (const uint8_t *)data, len);
	bool waits = n < len && !r->response;
	connection_expect(r->connection, waits ? DEADLINE_NONE : DEADLINE_BODY);
	if (waits)
		request_suspend(r);
	return n;
}

/* ---- MHD's callbacks ---- */

static void release(struct http_request *r)
{
	if (--r->holds)
		return;
	while (r->texts) {
		struct text *t = r->texts;
		r->texts = t->next;
		free(t);
	}
	if (r->response)
		MHD_destroy_response(r->response);
	if (r->held)
		MHD_destroy_response(r->held);
	free(r->body);
	free(r->path);
	free(r);
}

static enum MHD_Result queue(struct http_request *r)
{
	struct MHD_Response *response = r->response;
	r->response = NULL;
	r->queued = true;
	connection_expect(r->connection, r->streams ? DEADLINE_NONE : DEADLINE_REPLY);
	enum MHD_Result done = MHD_queue_response(r->mhd, r->status, response);
	MHD_destroy_response(response);
	return done;
}

enum MHD_Result request_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
			       const char *version, const char *upload, size_t *upload_size, void **state)
{
	(void)version;
	struct http_request *r = *state;
	if (!r) {
		*state = r = begin(cls, mhd, url, method);
		if (!r)
			return MHD_NO;
		return r->at_once ? queue(r) : MHD_YES;
	}
	if (*upload_size) {
		if (r->sink && !r->response) {
			*upload_size -= pass_on(r, upload, *upload_size);
			return MHD_YES;
		}
		bool taken = take(r, upload, *upload_size);
		*upload_size = 0;
		return taken ? MHD_YES : MHD_NO;
	}
	if (r->queued)
		return MHD_YES;
	if (!r->response && r->sink && !r->body_ended) {
		r->body_ended = true;
		connection_expect(r->connection, DEADLINE_NONE);
		r->sink->end(r->sink_arg);
	} else if (!r->response && !r->begun) {
		r->begun = true;
		r->holds++;
		connection_expect(r->connection, DEADLINE_NONE);
		const struct http_config *c = &r->server->config;
		if (!c->admit || c->admit(c->app, r))
			http_handle(r);
	}
	if (r->response)
		return queue(r);
	request_suspend(r);
	return MHD_YES;
}

void request_completed(void *cls, struct MHD_Connection *mhd, void **state,
		       enum MHD_RequestTerminationCode why)
{
	(void)cls;
	(void)mhd;
	(void)why;
	struct http_request *r = *state;
	*state = NULL;
	if (!r)
		return;
	connection_expect(r->connection, DEADLINE_IDLE);
	r->connection->request = NULL;
	r->connection = NULL;
	r->mhd = NULL;
	r->suspended = false;
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	if (r->ended)
		r->ended(r->ended_arg);
	if (r->gone && !r->response && !r->queued)
		r->gone(r->gone_arg);
	release(r);
}

void request_suspend(struct http_request *r)
{
	r->suspended = true;
	MHD_suspend_connection(r->mhd);
}

void request_resume(struct http_request *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	MHD_resume_connection(r->mhd);
	server_kick(r->server);
}

void request_answer(struct http_request *r, unsigned status, struct MHD_Response *response)
{
	MHD_add_response_header(response, "X-Request-Id", r->id);
	for (unsigned i = 0; i < r->header_count; i++)
		MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
	if (r->mhd) {
		r->status = status;
		r->response = response;
		/* What is left of the body is thrown away, and may not take for ever either. */
		if (r->sink && !r->body_ended)
			connection_expect(r->connection, DEADLINE_BODY);
		request_resume(r);
	} else {
		MHD_destroy_response(response);
	}
	if (r->begun)
		release(r);
}

/* ---- what handlers ask ---- */

const char *http_param(const struct http_request *r, const char *name)
{
	size_t len = strlen(name);
	for (unsigned i = 0; i < r->match.param_count; i++)
		if (r->match.params[i].name_len == len && memcmp(r->match.params[i].name, name, len) == 0)
			return r->match.params[i].value;
	return "";
}

const char *http_prefix(const struct http_request *r)
{
	return r->match.prefix;
}

/* A copy of a value, kept with the request and decoded. */
static const char *keep_text(struct http_request *r, const char *value, size_t len)
{
	struct text *t = malloc(sizeof *t + len + 1);
	if (!t)
		return NULL;
	if (value)
		memcpy(t->s, value, len);
	t->s[len] = '\0';
	t->next = r->texts;
	r->texts = t;
	router_decode(t->s); /* what is malformed is left as it is, for its reader to refuse */
	return t->s;
}

const char *http_query(struct http_request *r, const char *name)
{
	const char *value = NULL;
	size_t len = 0;
	if (!r->mhd || MHD_lookup_connection_value_n(r->mhd, MHD_GET_ARGUMENT_KIND, name, strlen(name),
						     &value, &len) == MHD_NO)
		return NULL;
	return keep_text(r, value, len);
}

struct query_list {
	struct http_request *r;
	const char *name, **out;
	size_t n, max;
};

static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_len,
				 const char *value, size_t len)
{
	struct query_list *q = cls;
	(void)kind;
	if (key_len != strlen(q->name) || memcmp(key, q->name, key_len) != 0)
		return MHD_YES;
	const char *kept = keep_text(q->r, value, len);
	if (kept && q->n < q->max)
		q->out[q->n++] = kept;
	return kept && q->n < q->max ? MHD_YES : MHD_NO;
}

size_t http_query_all(struct http_request *r, const char *name, const char **out, size_t max)
{
	struct query_list q = {.r = r, .name = name, .out = out, .max = max};
	if (r->mhd)
		MHD_get_connection_values_n(r->mhd, MHD_GET_ARGUMENT_KIND, add_query, &q);
	return q.n;
}

int http_query_flag(struct http_request *r, const char *name, bool *out)
{
	const char *s = http_query(r, name);
	*out = s && (!*s || strcmp(s, "true") == 0 || strcmp(s, "1") == 0);
	if (!s || *out || strcmp(s, "false") == 0 || strcmp(s, "0") == 0)
		return 0;
	http_reply_error(r, HTTP_INVALID_ARGUMENT, "%s must be true or false", name);
	return -EINVAL;
}

const char *http_header(const struct http_request *r, const char *name)
{
	return r->mhd ? MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name) : NULL;
}

const uint8_t *http_body(const struct http_request *r, size_t *len)
{
	*len = r->body_len;
	return r->body ? r->body : (const uint8_t *)"";
}

void http_receive(struct http_request *r, const struct http_sink *sink, void *arg)
{
	r->sink = sink;
	r->sink_arg = arg;
}

void http_receive_more(struct http_request *r)
{
	if (r->suspended && !r->body_ended && r->connection)
		connection_expect(r->connection, DEADLINE_BODY);
	if (!r->body_ended)
		request_resume(r);
}

void http_on_gone(struct http_request *r, void (*fn)(void *arg), void *arg)
{
	r->gone = fn;
	r->gone_arg = arg;
}

bool http_client_left(const struct http_request *r)
{
	return !r->mhd;
}

void http_handle(struct http_request *r)
{
	r->match.route->handle(r->server->config.app, r);
}

const struct http_route *http_route_of(const struct http_request *r)
{
	return r->match.route;
}

void http_use_numeric_codes(struct http_request *r)
{
	r->numeric = true;
}

bool http_has_numeric_codes(const struct http_request *r)
{
	return r->numeric;
}

bool http_from_unix(const struct http_request *r)
{
	return r->connection && r->connection->from_unix;
}

int http_peer_uid(const struct http_request *r, uid_t *out)
{
	const struct connection *c = r->connection;
	if (!c)
		return -ENOENT;
	return peer_uid(c->tls ? tls_conn_socket(c->tls) : c->fd, out);
}
