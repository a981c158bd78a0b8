#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "handshake.h"
#include "internal.h"

#define SILENT_PINGS 3 /* so long in pings without a sign of the client, and it is gone */
#define CLOSE_MS 5000  /* for the client to answer a close frame */
#define READ_BUDGET (256u << 10)
#define QUEUE_HIGH (256u << 10)
#define QUEUE_LOW (64u << 10)
#define BURST_MAX (1u << 20) /* out of files, before others have their turn */
#define QUEUED_COST 128      /* of a queued message beside its payload */
#define FRAME_HEAD_MAX 10    /* RFC 6455 §5.2, without a mask */

struct outgoing {
	uint8_t head[FRAME_HEAD_MAX + WS_HEAD_MAX];
	size_t head_at, head_len;
	int fd; /* the caller's; -1: there is none */
	off_t at;
	size_t len;
};

struct ws {
	struct http_server *server;
	struct ws *next, **link;
	const struct ws_handler *handler;
	void *arg;
	struct MHD_UpgradeResponseHandle *upgrade; /* NULL before 101 is out */
	int fd;                                    /* MHD's */
	wslay_event_context_ptr wslay;
	uv_poll_t poll;
	uv_timer_t timer;
	int watched;    /* events that poll waits for */
	uint8_t *early; /* read by MHD behind the request */
	size_t early_len, early_at;
	size_t budget;
	/* When the client last gave a sign: bytes came in, or a socket that was full took more. That a socket
	 * takes what is sent says nothing: the kernel's buffers take pings for hours. */
	uint64_t alive_ms;
	bool full, paused, writer_waits, lingering, finished;
	/* wslay sends control frames before queued messages. A ping says "all before me has arrived" and a
	 * close ends the queue, so both wait here until the queue is empty. */
	bool ping_due, closing, close_queued;
	uint16_t close_code;
	char close_reason[64];
	/* Of the frame header that is being read: wslay does not look at the mask bit. */
	uint8_t head[10];
	unsigned head_len;
	uint64_t skip;
	/* A message out of a file, of which something is not sent yet: before all that wslay has. */
	struct outgoing file;
	size_t burst; /* of such messages, sent since step ran last */
};

static void on_poll(uv_poll_t *p, int status, int events);

static void ws_free(uv_handle_t *h)
{
	struct ws *w = h->data;
	wslay_event_context_free(w->wslay);
	free(w->early);
	free(w);
}

static void timer_closed(uv_handle_t *h)
{
	struct ws *w = h->data;
	uv_close((uv_handle_t *)&w->poll, ws_free);
}

/* Never from inside a handler's call: ws_close and ws_send only queue. */
static void finish(struct ws *w)
{
	if (w->finished)
		return;
	w->finished = true;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	uv_poll_stop(&w->poll);
	MHD_upgrade_action(w->upgrade, MHD_UPGRADE_ACTION_CLOSE);
	server_kick(w->server);
	w->handler->closed(w->arg);
	uv_close((uv_handle_t *)&w->timer, timer_closed);
}

void ws_abort(struct ws *w)
{
	finish(w);
}

/* With what a message costs beside its bytes. */
static size_t queued(const struct ws *w)
{
	return w->file.len + wslay_event_get_queued_msg_length(w->wslay) +
	       QUEUED_COST * wslay_event_get_queued_msg_count(w->wslay);
}

/* Who talks and does not read would fill our memory with answers: pongs, which wslay queues by itself, and
 * errors. A writer stops at half of this, so output alone never keeps us from reading stdin. */
static bool may_read(const struct ws *w)
{
	return !w->paused && queued(w) < 2 * QUEUE_HIGH;
}

static bool want_write(const struct ws *w)
{
	return w->file.fd >= 0 || wslay_event_want_write(w->wslay);
}

/* Whether step has something to do as soon as the socket is writable. Behind a close frame nothing goes out:
 * what was queued then, wslay keeps, and waiting for it to leave would be a wait that spins. */
static bool has_work(const struct ws *w)
{
	if (want_write(w))
		return true;
	if (wslay_event_get_close_sent(w->wslay))
		return false;
	return w->ping_due || (w->closing ? !w->close_queued : w->writer_waits);
}

static void watch(struct ws *w)
{
	int events = 0;
	if (w->finished)
		return;
	bool reads = !w->lingering && may_read(w) && wslay_event_want_read(w->wslay);
	if (w->lingering || reads)
		events |= UV_READABLE;
	/* What MHD has read already does not make the socket readable: writable it is, and so step runs. */
	if (has_work(w) || (reads && w->early_at < w->early_len))
		events |= UV_WRITABLE;
	/* A paused socket must still show that the client left. */
	if (!events)
		events = UV_DISCONNECT;
	if (events != w->watched)
		uv_poll_start(&w->poll, events, on_poll);
	w->watched = events;
}

/* ---- reading ---- */

/* Follows the frame headers in what is read: RFC 6455 §5.1 wants a client's frames masked. */
static bool all_masked(struct ws *w, const uint8_t *data, size_t len)
{
	while (len) {
		if (w->skip) {
			size_t n = len < w->skip ? len : (size_t)w->skip;
			w->skip -= n;
			data += n;
			len -= n;
			continue;
		}
		w->head[w->head_len++] = *data++;
		len--;
		if (w->head_len < 2)
			continue;
		if (!(w->head[1] & 0x80))
			return false;
		unsigned size = w->head[1] & 0x7f;
		unsigned want = size == 126 ? 4 : size == 127 ? 10 : 2;
		if (w->head_len < want)
			continue;
		uint64_t payload = want == 2 ? size : 0;
		for (unsigned i = 2; i < want; i++)
			payload = payload << 8 | w->head[i];
		w->skip = (payload > UINT64_MAX - 4 ? UINT64_MAX - 4 : payload) + 4; /* and the mask itself */
		w->head_len = 0;
	}
	return true;
}

static ssize_t on_want_data(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	(void)flags;
	struct ws *w = arg;
	ssize_t n;
	if (len > w->budget)
		len = w->budget;
	if (!may_read(w) || len == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (w->early_at < w->early_len) {
		n = (ssize_t)(len < w->early_len - w->early_at ? len : w->early_len - w->early_at);
		memcpy(buf, w->early + w->early_at, (size_t)n);
		w->early_at += (size_t)n;
	} else {
		n = recv(w->fd, buf, len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
			return -1;
		}
	}
	if (n > 0 && !all_masked(w, buf, (size_t)n)) {
		wslay_event_shutdown_read(ctx);
		ws_close(w, WSLAY_CODE_PROTOCOL_ERROR, "frames must be masked");
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (n <= 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
		return -1;
	}
	w->budget -= (size_t)n;
	w->alive_ms = uv_now(w->server->config.loop);
	return n;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
	(void)ctx;
	struct ws *w = arg;
	if (w->closing)
		return;
	if (m->opcode == WSLAY_TEXT_FRAME || m->opcode == WSLAY_BINARY_FRAME)
		w->handler->message(w->arg, m->opcode == WSLAY_TEXT_FRAME, m->msg, m->msg_length);
	else if (m->opcode == WSLAY_PONG)
		w->handler->pong(w->arg, m->msg, m->msg_length);
}

/* ---- writing ---- */

static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* The socket took n of len bytes, or none. */
static ssize_t took(struct ws *w, ssize_t n, size_t len)
{
	if (n > 0 && w->full)
		w->alive_ms = uv_now(w->server->config.loop);
	w->full = n < (ssize_t)len;
	return n;
}

static ssize_t send_some(struct ws *w, const uint8_t *data, size_t len, bool more)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
	return took(w, send(w->fd, data, len, flags), len);
}

static ssize_t on_want_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags,
			    void *arg)
{
	struct ws *w = arg;
	ssize_t n = send_some(w, data, len, flags & WSLAY_MSG_MORE);
	if (n < 0)
		wslay_event_set_error(ctx, would_block() ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return n;
}

/* What is left of the message out of a file, as far as the socket takes it. -EIO if the socket or the file is
 * at its end. */
static int send_file(struct ws *w)
{
	struct outgoing *f = &w->file;
	ssize_t n;
	while (f->head_at < f->head_len) {
		if ((n = send_some(w, f->head + f->head_at, f->head_len - f->head_at, true)) < 0)
			return would_block() ? 0 : -EIO;
		f->head_at += (size_t)n;
	}
	while (f->len > 0) {
		n = took(w, sendfile(w->fd, f->fd, &f->at, f->len), f->len);
		if (n <= 0)
			return n < 0 && would_block() ? 0 : -EIO;
		f->len -= (size_t)n;
		w->burst += (size_t)n;
	}
	f->fd = -1;
	return 0;
}

/* What the socket takes of what is queued. -EIO if it takes nothing any more. */
static int send_messages(struct ws *w)
{
	if (w->file.fd >= 0 && send_file(w) < 0)
		return -EIO;
	if (w->file.fd < 0 && wslay_event_want_write(w->wslay) && wslay_event_send(w->wslay) != 0)
		return -EIO;
	return 0;
}

static size_t frame_head(uint8_t *out, size_t len)
{
	out[0] = 0x80 | WSLAY_BINARY_FRAME; /* FIN */
	if (len < 126) {
		out[1] = (uint8_t)len;
		return 2;
	}
	unsigned size = len <= UINT16_MAX ? 2 : 8;
	out[1] = size == 2 ? 126 : 127;
	for (unsigned i = 0; i < size; i++)
		out[2 + i] = (uint8_t)((uint64_t)len >> 8 * (size - 1 - i));
	return 2 + size;
}

bool ws_takes_file(const struct ws *w)
{
	/* Behind a close frame nothing may follow: ws_send finds that out, and begins to close. */
	return !w->finished && !w->closing && !want_write(w) && !wslay_event_get_close_received(w->wslay) &&
	       !wslay_event_get_close_sent(w->wslay);
}

void ws_send_file(struct ws *w, const void *head, size_t head_len, int fd, uint64_t at, size_t len)
{
	struct outgoing *f = &w->file;
	f->fd = fd;
	f->head_at = 0;
	f->head_len = frame_head(f->head, head_len + len);
	memcpy(f->head + f->head_len, head, head_len);
	f->head_len += head_len;
	f->at = (off_t)at;
	f->len = len;
	send_messages(w); /* what goes wrong is found by step, which may end the socket */
	watch(w);
}

static void queue(struct ws *w, uint8_t opcode, const void *data, size_t len)
{
	if (w->finished || w->closing)
		return;
	const struct wslay_event_msg m = {.opcode = opcode, .msg = data, .msg_length = len};
	/* Without memory for a message the stream would have a hole: it ends instead. */
	if (wslay_event_queue_msg(w->wslay, &m) != 0)
		ws_close(w, WSLAY_CODE_INTERNAL_SERVER_ERROR, "out of memory");
	watch(w);
}

void ws_send(struct ws *w, bool text, const void *data, size_t len)
{
	queue(w, text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, data, len);
}

void ws_send_json(struct ws *w, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text)
		ws_send(w, true, text, strlen(text));
	free(text);
	json_decref(object);
}

void ws_ping(struct ws *w)
{
	w->ping_due = true;
	watch(w);
}

void ws_flush(struct ws *w)
{
	/* What goes wrong is found by step, which may end the socket. */
	if (!w->finished)
		send_messages(w);
	watch(w);
}

bool ws_has_room(struct ws *w)
{
	if (w->file.fd < 0 && w->burst < BURST_MAX && queued(w) < QUEUE_HIGH)
		return true;
	w->writer_waits = true;
	watch(w);
	return false;
}

void ws_pause(struct ws *w, bool paused)
{
	w->paused = paused;
	watch(w);
}

void ws_close(struct ws *w, uint16_t code, const char *reason)
{
	if (w->finished || w->closing)
		return;
	w->closing = true;
	w->close_code = code;
	snprintf(w->close_reason, sizeof w->close_reason, "%s", reason);
	watch(w);
}

/* ---- events ---- */

static void on_close_timeout(uv_timer_t *t)
{
	finish(t->data);
}

/* The close frame is out. Closing now with unread bytes would reset the connection, and the client might not
 * see it. */
static void linger(struct ws *w)
{
	if (!w->lingering) {
		w->lingering = true;
		shutdown(w->fd, SHUT_WR);
		uv_timer_start(&w->timer, on_close_timeout, CLOSE_MS, 0);
	}
	char waste[4096];
	ssize_t n;
	int rounds = 64;
	while ((n = recv(w->fd, waste, sizeof waste, MSG_DONTWAIT)) > 0 && --rounds)
		;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		finish(w);
}

/* Writes what the socket takes; then, behind the last message, the ping and the close that waited for it. */
static int send_queued(struct ws *w)
{
	if (send_messages(w) < 0)
		return -EIO;
	if (want_write(w))
		return 0;
	if (w->ping_due) {
		uint8_t payload[125];
		w->ping_due = false;
		queue(w, WSLAY_PING, payload, w->handler->ping(w->arg, payload));
	}
	if (w->closing && !w->close_queued && queued(w) == 0) {
		w->close_queued = true;
		wslay_event_queue_close(w->wslay, w->close_code, (const uint8_t *)w->close_reason,
					strlen(w->close_reason));
	}
	return send_messages(w);
}

static void step(struct ws *w, bool readable)
{
	w->budget = READ_BUDGET;
	w->burst = 0;
	bool reads = (readable || w->early_at < w->early_len) && !w->lingering;
	if (reads && wslay_event_want_read(w->wslay) && wslay_event_recv(w->wslay) != 0)
		return finish(w);
	if (send_queued(w) < 0)
		return finish(w);
	if (w->writer_waits && w->file.fd < 0 && queued(w) < QUEUE_LOW && !w->closing) {
		w->writer_waits = false;
		w->handler->drained(w->arg);
	}
	if (wslay_event_get_close_sent(w->wslay) && !want_write(w))
		linger(w);
	watch(w);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct ws *w = p->data;
	if (status < 0 || events == UV_DISCONNECT)
		finish(w);
	else
		step(w, events & UV_READABLE);
}

static void on_ping_time(uv_timer_t *t)
{
	struct ws *w = t->data;
	/* A client that we do not listen to cannot be silent. */
	if (w->paused)
		w->alive_ms = uv_now(t->loop);
	/* Half a ping early: the last sign came a little after the timer's turn. */
	uint64_t ping_ms = w->server->config.ping_ms;
	if (uv_now(t->loop) - w->alive_ms + ping_ms / 2 > SILENT_PINGS * ping_ms)
		return finish(w);
	ws_ping(w);
	step(w, false);
}

/* ---- opening ---- */

static void on_upgrade(void *cls, struct MHD_Connection *mhd, void *state, const char *extra,
		       size_t extra_len, MHD_socket fd, struct MHD_UpgradeResponseHandle *upgrade)
{
	(void)mhd;
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_want_data,
		.send_callback = on_want_send,
		.on_msg_recv_callback = on_message,
	};
	struct ws *w = cls;
	struct http_request *r = state;
	r->ended = NULL;
	w->upgrade = upgrade;
	w->fd = fd;
	w->alive_ms = uv_now(w->server->config.loop);
	if (extra_len && (w->early = malloc(extra_len))) {
		memcpy(w->early, extra, extra_len);
		w->early_len = extra_len;
	}
	if ((extra_len && !w->early) || wslay_event_context_server_init(&w->wslay, &callbacks, w) != 0 ||
	    uv_poll_init_socket(w->server->config.loop, &w->poll, fd) < 0) {
		MHD_upgrade_action(upgrade, MHD_UPGRADE_ACTION_CLOSE);
		w->handler->closed(w->arg);
		wslay_event_context_free(w->wslay);
		free(w->early);
		free(w);
		return;
	}
	wslay_event_config_set_max_recv_msg_length(w->wslay, WS_MESSAGE_MAX);
	uv_timer_init(w->server->config.loop, &w->timer);
	w->poll.data = w->timer.data = w;
	w->next = w->server->sockets;
	w->link = &w->server->sockets;
	if (w->next)
		w->next->link = &w->next;
	w->server->sockets = w;
	w->handler->open(w->arg, w);
	/* The first ping goes out at once, from the loop: it tells the client that we are there. */
	uv_timer_start(&w->timer, on_ping_time, 0, w->server->config.ping_ms);
	watch(w);
}

static void on_never_opened(void *arg)
{
	struct ws *w = arg;
	w->handler->closed(w->arg);
	free(w);
}

int http_check_ws(struct http_request *r)
{
	const char *upgrade = http_header(r, "Upgrade"), *connection = http_header(r, "Connection");
	const char *version = http_header(r, "Sec-WebSocket-Version"),
		   *key = http_header(r, "Sec-WebSocket-Key");
	if (!upgrade || !handshake_has_token(upgrade, "websocket") || !connection ||
	    !handshake_has_token(connection, "upgrade")) {
		http_set_header(r, "Upgrade", "websocket");
		http_reply_error_with(r, 426, HTTP_INVALID_ARGUMENT, NULL,
				      "this path wants a WebSocket upgrade");
		return -EPROTO;
	}
	if (!version || strcmp(version, "13") != 0) {
		http_set_header(r, "Sec-WebSocket-Version", "13");
		http_reply_error_with(r, 426, HTTP_INVALID_ARGUMENT, NULL,
				      "Sec-WebSocket-Version must be 13");
		return -EPROTO;
	}
	if (!key || !handshake_key_is_valid(key)) {
		http_reply_error(r, HTTP_INVALID_ARGUMENT, "Sec-WebSocket-Key must be 16 bytes in base64");
		return -EPROTO;
	}
	return 0;
}

void http_reply_ws(struct http_request *r, const struct ws_handler *handler, void *arg)
{
	const char *key = http_header(r, "Sec-WebSocket-Key");
	struct ws *w = key ? calloc(1, sizeof *w) : NULL;
	struct MHD_Response *response = w ? MHD_create_response_for_upgrade(on_upgrade, w) : NULL;
	if (!response) {
		free(w);
		handler->closed(arg);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	char accept[HANDSHAKE_ACCEPT_SIZE];
	handshake_accept(key, accept);
	w->server = r->server;
	w->handler = handler;
	w->arg = arg;
	w->file.fd = -1;
	MHD_add_response_header(response, "Upgrade", "websocket");
	MHD_add_response_header(response, "Sec-WebSocket-Accept", accept);
	r->streams = true;
	r->ended = on_never_opened;
	r->ended_arg = w;
	request_answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, response);
}
