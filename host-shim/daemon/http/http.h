/* HTTP/1.1 on libmicrohttpd, driven by the libuv loop. This room knows requests, replies, event streams and
 * WebSockets; it does not know boxes. rest/ hands it a table of routes; every call and callback is on the
 * loop thread.
 *
 *   server.c     listeners, connections with their deadlines, MHD's epoll fd on the loop
 *   request.c    one request: framing checks, routing, the bounded body, the handler, its one reply
 *   router.c     "/v1[/{prefix}]/boxes/{box}" → route and parameters
 *   reply.c      JSON, empty and typed error replies, request ids
 *   fields.c     reads a JSON body member by member and names what is wrong with it
 *   sse.c        text/event-stream from a source that is asked when there is room
 *   stream.c     a reply of any length from a source that is asked when there is room
 *   ws.c         WebSocket on the upgraded socket (handshake.c checks the request)
 *   peer.c       whose process of this machine is at the other end
 *   tls.c        TLS in front of MHD (certificate.c: what it shows)
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "proto/err.h"

struct http_server;
struct http_request;

/* ---- routes ---- */

/* Runs when head and the whole (bounded) body are there. Must lead to exactly one reply, now or later; until
 * then the request is the handler's, afterwards it is not to be touched. */
typedef void (*http_handler_fn)(void *app, struct http_request *r);

struct http_route {
	const char *method; /* "GET" */
	const char *
		path; /* "/boxes/{box}/executions/{id}": braces name segments; matched after /v1[/{prefix}] */
	http_handler_fn handle;
	size_t body_max; /* bytes of body; 0: HTTP_BODY_DEFAULT. More is answered 413 */
	bool open;       /* served without asking `authorize` */
	/* handle runs as soon as the head is there. The body goes to its sink (http_receive) as it arrives
	 * and may be of any length; without one it is thrown away. */
	bool streams;
	bool at_root;    /* served without /v1 in front, too */
	unsigned scopes; /* for `authorize`: what it asks of the caller */
	unsigned flags;  /* for `admit` */
};
#define HTTP_BODY_DEFAULT (1u << 20)

/* ---- server ---- */
struct http_config {
	uv_loop_t *loop;
	const struct http_route *routes; /* outlive the server, like all of this */
	size_t route_count;
	void *app; /* handed to handlers and to what follows */
	/* The prefixes of now, NULL-terminated: "default", "eu/team-4". The strings outlive the server, the
	 * list lives until the next call. NULL: there are none. */
	const char *const *(*prefixes)(void *app);
	/* Told of every request that is framed well, before its route is looked for. May be NULL. */
	void (*greet)(void *app, struct http_request *r);
	/* Asked for every request whose route is not `open`, before its body is read. true: go on. false: it
	 * has replied. NULL: everybody may do everything. */
	bool (*authorize)(void *app, struct http_request *r);
	/* Asked when the body is there, too, before the handler. False: it has replied, or will, or will call
	 * http_handle. May be NULL. */
	bool (*admit)(void *app, struct http_request *r);
	/* PEM files: every TCP listener speaks TLS. Copied; both or neither. */
	const char *tls_cert, *tls_key;
	unsigned connection_limit; /* 0: 4096 */
	unsigned head_timeout_ms;  /* a request's head must be there after this, 0: 30 s */
	unsigned body_timeout_ms;  /* and its body after this, 0: 60 s */
	unsigned ping_ms;          /* between signs of life that streams and WebSockets give, 0: 15 s */
	unsigned idle_timeout_ms;  /* between requests of a kept connection, 0: 75 s */
};
int http_server_create(struct http_server **out, const struct http_config *c, struct err *e);
/* Ends every connection; handlers that have not replied may still do so, into the void. NULL is fine. */
void http_server_destroy(struct http_server *s);
/* Reads the certificate's files again, for connections to come; after a failure the old one stays. 0 without
 * TLS. */
int http_reload_tls(struct http_server *s, struct err *e);
/* "127.0.0.1:8100", "[::1]:0"; numeric addresses only. -EINVAL names what is wrong with it. */
int http_listen_tcp(struct http_server *s, const char *address, struct err *e);
/* Makes a socket of mode 0600 at path, replacing a dead one; -EADDRINUSE if somebody serves there. */
int http_listen_unix(struct http_server *s, const char *path, struct err *e);
/* "http://127.0.0.1:43210" (https:// with TLS) of the n-th TCP listener (the real port), NULL beyond the
 * last. */
const char *http_listen_url(const struct http_server *s, size_t n);
/* Whether an ADDR:PORT is loopback; false also for what does not parse. */
bool http_address_is_loopback(const char *address);

/* ---- what a request says ---- */
/* A named segment of the route, percent-decoded. Never NULL for a name in the route's path. */
const char *http_param(const struct http_request *r, const char *name);
/* The registered prefix in the URL, "" if there was none. */
const char *http_prefix(const struct http_request *r);
/* A query argument, percent-decoded into the request; NULL if absent. "" for "?force". */
const char *http_query(struct http_request *r, const char *name);
/* Every value of an argument that may be repeated, in their order, the first max of them; how many. */
size_t http_query_all(struct http_request *r, const char *name, const char **out, size_t max);
/* "true", "1" and "" (present) are true; "false", "0" and absence false. Others: replies 400, returns
 * -EINVAL. */
int http_query_flag(struct http_request *r, const char *name, bool *out);
/* The first header of that name, NULL if absent. */
const char *http_header(const struct http_request *r, const char *name);
const uint8_t *http_body(const struct http_request *r,
			 size_t *len);             /* never NULL, NUL-terminated for reading text */
bool http_from_unix(const struct http_request *r); /* came over the unix socket */
/* The user whose process sent it, as peer.h has it. -ENOENT if it is not one of this machine. */
int http_peer_uid(const struct http_request *r, uid_t *out);
const struct http_route *http_route_of(const struct http_request *r); /* NULL before it was found */
/* Whether nobody waits for the reply any more. */
bool http_client_left(const struct http_request *r);
/* Of method, path, query and body; the same for the same request. */
void http_fingerprint(const struct http_request *r, uint8_t out[32]);
/* Calls the route's handler, after `admit` has said false. */
void http_handle(struct http_request *r);
/* A member of an application/x-www-form-urlencoded body, decoded and NUL-terminated. -ENOENT if it is not
 * there or there twice, -EINVAL if it is malformed, -E2BIG beyond cap - 1 bytes. */
int http_form_value(const uint8_t *body, size_t len, const char *name, char *out, size_t cap);

/* fn runs if the request is over before it was answered: the client left, as far as that is seen, or the
 * server ends. What serves it may be given up, but it is still to be answered, into the void. */
void http_on_gone(struct http_request *r, void (*fn)(void *arg), void *arg);

/* ---- bodies of any length ---- */
struct http_sink {
	/* Takes some of n bytes and returns how many; what is left is offered again after http_receive_more.
	 */
	size_t (*take)(void *arg, const uint8_t *bytes, size_t n);
	void (*end)(void *arg); /* that was all */
};
/* In the handler of a route that streams. Nothing more is offered once the request is answered; if the client
 * leaves first, http_on_gone's function tells it. The deadline for a body counts anew with each byte. */
void http_receive(struct http_request *r, const struct http_sink *sink, void *arg);
void http_receive_more(struct http_request *r);

/* ---- replies ---- */

/* Error codes of the REST API that the published clients know; reply.c has their status and type. */
enum http_error {
	HTTP_INVALID_ARGUMENT,
	HTTP_UNSUPPORTED,
	HTTP_UNAUTHENTICATED,
	HTTP_PERMISSION_DENIED,
	HTTP_NOT_FOUND,
	HTTP_ALREADY_EXISTS,
	HTTP_INVALID_STATE,
	HTTP_STOPPED,
	HTTP_SESSION_REAPED,
	HTTP_IMAGE_PULL_FAILED,
	HTTP_EXECUTION_FAILED,
	HTTP_RESOURCE_EXHAUSTED,
	HTTP_NETWORK_UNAVAILABLE,
	HTTP_UPSTREAM_UNAVAILABLE,
	HTTP_ENGINE_UNAVAILABLE,
	HTTP_STORAGE_ERROR,
	HTTP_DATABASE_ERROR,
	HTTP_METADATA_ERROR,
	HTTP_CONFIG_ERROR,
	HTTP_INTERNAL,
	HTTP_TIMEOUT,
};
/* Its word: "not_found". */
const char *http_error_code(enum http_error error);
/* Errors of this request carry their status as code, as before 2026-05, not a name. */
void http_use_numeric_codes(struct http_request *r);
bool http_has_numeric_codes(const struct http_request *r);
/* A header of the reply to come. Value is checked: no control characters reach the wire. */
void http_set_header(struct http_request *r, const char *name, const char *value);
/* Takes body (also when it fails). */
void http_reply_json(struct http_request *r, unsigned status, json_t *body);
void http_reply_empty(struct http_request *r, unsigned status);
/* Text of a type; NULL: none, and no text. Copies. */
void http_reply_text(struct http_request *r, unsigned status, const char *type, const char *text, size_t len);
/* The reply that is made next, of whatever kind above or below but no stream, is told to fn and not sent
 * before http_send_held. What is told is valid during the call; location is "" if there is none. */
typedef void (*http_held_fn)(void *arg, unsigned status, const char *location, const char *body, size_t len);
void http_hold_reply(struct http_request *r, http_held_fn fn, void *arg);
void http_send_held(struct http_request *r);
void http_reply_error(struct http_request *r, enum http_error code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with a status of its own (0: the code's) and more members in the error object (taken; may be
 * NULL). */
void http_reply_error_with(struct http_request *r, unsigned status, enum http_error code, json_t *more,
			   const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ---- replies of any length ---- */
struct http_stream;
#define HTTP_LENGTH_UNKNOWN UINT64_MAX
#define HTTP_SOURCE_END (-1)
#define HTTP_SOURCE_FAILED \
	(-2) /* the connection is cut, so that the client sees that this is not the whole */
struct http_source {
	/* Up to max bytes into buf: how many. 0: none now, http_stream_wake resumes. Or one of the above. */
	ssize_t (*fill)(void *arg, struct http_stream *s, uint8_t *buf, size_t max);
	/* It is over, for whatever reason. Exactly once; s is gone after it. */
	void (*closed)(void *arg);
};
/* Replies and streams length bytes, or until the source ends. A client that takes nothing for 15 minutes is
 * given up. source and arg live until closed. */
void http_reply_stream(struct http_request *r, unsigned status, uint64_t length,
		       const struct http_source *source, void *arg);
void http_stream_wake(struct http_stream *s);

/* ---- event streams ---- */
struct sse;
struct sse_source {
	/* Fill the buffer with whole events (sse_put) and return true, or return false when the last one is
	 * in it. Called when the client has room. Putting nothing means "wait": sse_wake resumes. */
	bool (*fill)(void *arg, struct sse *s);
	/* The stream is over, for whatever reason. Exactly once; s is gone after it. */
	void (*closed)(void *arg);
};
/* Replies 200 and streams. A comment goes out after ping_ms of silence. source and arg live until closed. */
void http_reply_sse(struct http_request *r, const struct sse_source *source, void *arg);
void sse_wake(struct sse *s);
/* Largest payload that one sse_put_data can take now. Below SSE_ROOM_MIN: return true and be called again.
 * Above it there is also room for one small sse_put_json. */
#define SSE_ROOM_MIN 1024
size_t sse_room(const struct sse *s);
/* event: name, id: position, data: {"data":"<base64>"}. len at most sse_room. */
void sse_put_data(struct sse *s, const char *name, uint64_t position, const uint8_t *data, size_t len);
/* The same with a small JSON object as data (borrowed). -ENOSPC: no room now, return true and be called
 * again. */
int sse_put_json(struct sse *s, const char *name, uint64_t position, json_t *data);

/* ---- WebSockets ---- */
struct ws;
struct ws_handler {
	void (*open)(void *arg, struct ws *w); /* upgraded: from now on w may be used */
	/* One whole message, at most WS_MESSAGE_MAX; data is valid during the call. */
	void (*message)(void *arg, bool text, const uint8_t *data, size_t len);
	/* Payload of the next ping into buf (at most 125 bytes); returns its length. Asked at once, every
	 * ping_ms and after ws_ping, each time when every message before it has been written to the socket. A
	 * client that gives no sign for three times as long is gone. */
	size_t (*ping)(void *arg, uint8_t buf[125]);
	void (*pong)(void *arg, const uint8_t *data, size_t len);
	void (*drained)(void *arg); /* there is room again, where ws_has_room said that there was none */
	/* The socket is gone (also if it never opened). Exactly once, last. */
	void (*closed)(void *arg);
};
#define WS_MESSAGE_MAX (1u << 20)
/* Checks the handshake of r. 0: r may be answered with http_reply_ws. Else it has replied 400 or 426. */
int http_check_ws(struct http_request *r);
/* Replies 101. handler and arg live until closed. */
void http_reply_ws(struct http_request *r, const struct ws_handler *handler, void *arg);
/* Queues a message; copies. Nothing is read from a client who lets too much pile up. */
void ws_send(struct ws *w, bool text, const void *data, size_t len);
/* Whether ws_send_file may be called: nothing else is queued. */
bool ws_takes_file(const struct ws *w);
/* Sends a binary message, `head` (at most WS_HEAD_MAX bytes) and len bytes of the open file `fd` from `at`
 * on, which do not pass through our memory: sendfile(2). They must not change any more, and fd must stay open
 * until ws_has_room says that there is room, or the socket has closed. What goes out at once counts as queued
 * until the socket is next looked at. */
#define WS_HEAD_MAX 4
void ws_send_file(struct ws *w, const void *head, size_t head_len, int fd, uint64_t at, size_t len);
/* Sends what the socket takes of it at once, and not when the loop finds it writable. Calls no handler. */
void ws_flush(struct ws *w);
void ws_send_json(struct ws *w, json_t *object); /* takes object */
void ws_ping(struct ws *w);                      /* soon, behind what is queued */
/* Whether a writer may go on. If not, drained is called when it may. */
bool ws_has_room(struct ws *w);
void ws_pause(struct ws *w, bool paused); /* stop reading: backpressure towards the client */
/* Sends what is queued and a close frame, then closes; the client has 5 s to answer. No message is delivered
 * after it. */
void ws_close(struct ws *w, uint16_t code, const char *reason);
