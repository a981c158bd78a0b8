#include <endian.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "utf8.h"

/* GET …/attach: an execution over a WebSocket, as the published clients speak it: binary frames of
 * output led by their channel, text frames of control, the rest is stdin. */

#define FRAME_MAX (64u << 10)
#define FILE_MIN 4096         /* less than this is not worth a sendfile(2) */
#define FILE_MAX (256u << 10) /* of one frame: some clients take no message above 1 MiB */
#define CALLS_MAX 256         /* of one client under way: then it waits for the agent's answers */

struct attach {
	unsigned holds; /* the socket's, those of calls under way */
	struct ws *ws;  /* NULL before it opened and after it closed */
	struct execution *x;
	struct reader *reader;
	struct utf8_hold held[2]; /* stdout, stderr */
	/* Our pings carry the log position up to which all was sent; the pong says that it has arrived, and
	 * the next attach begins there. With half a code point held back the position stays before it. */
	uint64_t position, pinged;
	uint64_t held_since; /* loop time */
	unsigned hold_ms;
	bool ping_out;
	bool stdin_full;
	bool raw;      /* of /exec/tty */
	bool may_kill; /* its bearer's dialect has no other way to kill */
	bool ended;    /* the exit is sent: nothing more is read, and somebody else may attach */
	uv_loop_t *loop;
	uint8_t frame[FRAME_MAX];
};

static void throttle(struct attach *a)
{
	if (a->ws)
		ws_pause(a->ws, a->stdin_full || a->holds > CALLS_MAX);
}

static void release(struct attach *a)
{
	if (--a->holds == 0)
		free(a);
	else
		throttle(a);
}

static void send_error(struct attach *a, const char *message)
{
	if (a->ws)
		ws_send_json(a->ws, json_pack("{s:s, s:s}", "type", "error", "message", message));
}

/* ---- output ---- */

static bool holds_back(const struct attach *a)
{
	return a->held[0].len || a->held[1].len;
}

/* n bytes, after their channel. */
static void send_frame(struct attach *a, size_t n)
{
	if (n)
		ws_send(a->ws, false, a->frame + a->raw, n + 1 - a->raw);
}

static void send_data(struct attach *a, int channel, const uint8_t *data, size_t len)
{
	if (!holds_back(a))
		a->held_since = uv_now(a->loop);
	a->frame[0] = (uint8_t)channel;
	size_t n = utf8_feed(&a->held[channel - 1], data, len, a->frame + 1);
	send_frame(a, n);
}

/* Data that is still in the log's file goes from there to the socket: all but the beginning of a code point
 * at its end, which is held back. */
static void send_from_file(struct attach *a, struct reader_item *item)
{
	struct utf8_hold *h = &a->held[item->channel - 1];
	uint8_t head[1 + sizeof h->bytes] = {(uint8_t)item->channel}, tail[3];
	off_t end = (off_t)(item->at + item->len);
	if (pread(item->file, tail, sizeof tail, end - (off_t)sizeof tail) != sizeof tail) {
		item->kind = READ_ERROR;
		return;
	}
	memcpy(head + 1, h->bytes, h->len);
	size_t held = utf8_incomplete(tail, sizeof tail);
	ws_send_file(a->ws, head + a->raw, 1 - a->raw + h->len, item->file, item->at, item->len - held);
	if (!holds_back(a))
		a->held_since = uv_now(a->loop);
	h->len = (unsigned)held;
	memcpy(h->bytes, tail + sizeof tail - held, held);
}

static void flush(struct attach *a, int channel)
{
	a->frame[0] = (uint8_t)channel;
	size_t n = utf8_flush(&a->held[channel - 1], a->frame + 1);
	send_frame(a, n);
}

static void end(struct attach *a, uint16_t code, const char *reason)
{
	ws_close(a->ws, code, reason);
	a->ended = true;
	execution_detach(a->x);
}

static void send_exit(struct attach *a)
{
	struct execution_info i;
	execution_get_info(a->x, &i);
	flush(a, 1);
	flush(a, 2);
	json_t *exit = json_pack("{s:s, s:i}", "type", "exit", "exit_code", i.exit_code);
	if (i.reason[0])
		json_object_set_new(exit, "reason", json_string(i.reason));
	ws_send_json(a->ws, exit);
	end(a, 1000, "");
}

static void pump(struct attach *a)
{
	while (a->ws && !a->ended && ws_has_room(a->ws)) {
		struct reader_item item;
		bool takes_file = ws_takes_file(a->ws);
		reader_next(a->reader, takes_file ? FILE_MAX : FRAME_MAX - 4, &item);
		bool by_file = takes_file && item.kind == READ_DATA && !item.data && item.len >= FILE_MIN;
		if (by_file)
			send_from_file(a, &item);
		else
			reader_load(a->reader, &item);
		switch (item.kind) {
		case READ_DATA:
			if (!by_file)
				send_data(a, item.channel, item.data, item.len);
			break;
		case READ_GAP:
			flush(a, item.channel);
			ws_send_json(a->ws,
				     json_pack("{s:s, s:I, s:I}", "type", "gap", "from",
					       (json_int_t)item.gap_from, "to", (json_int_t)item.gap_to));
			break;
		case READ_EXIT:
			send_exit(a);
			return;
		case READ_ERROR:
			send_error(a, "the log of this execution cannot be read");
			end(a, 1011, "log unreadable");
			return;
		case READ_WAIT:
			if (a->position != a->pinged && !a->ping_out)
				ws_ping(a->ws);
			return;
		}
		if (!holds_back(a))
			a->position = item.position;
	}
}

static void on_more(void *arg)
{
	struct attach *a = arg;
	pump(a);
	if (a->ws)
		ws_flush(a->ws);
}

/* ---- input ---- */

static void on_stdin_drain(void *arg)
{
	struct attach *a = arg;
	a->stdin_full = false;
	throttle(a);
}

static void take_stdin(struct attach *a, const uint8_t *data, size_t len)
{
	if (len == 0)
		return;
	if (execution_stdin_queued(a->x) + len > EXECUTION_STDIN_MAX) {
		/* Only with POST …/input beside us: alone, we stop reading before. */
		ws_close(a->ws, 1008, "too much input waits");
		return;
	}
	execution_write(a->x, data, len, NULL, NULL);
	if (execution_stdin_queued(a->x) > EXECUTION_STDIN_MAX / 2) {
		a->stdin_full = true;
		throttle(a);
		execution_on_stdin_drain(a->x, on_stdin_drain, a);
	}
}

static void on_done(void *arg, const struct failure *f)
{
	struct attach *a = arg;
	if (f)
		send_error(a, f->message);
	release(a);
}

static void hold_for_call(struct attach *a)
{
	a->holds++;
	throttle(a);
}

static void take_resize(struct attach *a, struct fields *f)
{
	unsigned rows, cols;
	rest_read_size(f, true, &rows, &cols);
	if (f->problem[0])
		return;
	hold_for_call(a);
	execution_resize(a->x, rows, cols, on_done, a);
}

static void take_signal(struct attach *a, struct fields *f)
{
	bool killing = false;
	int signo = rest_read_signal(f, "sig", a->may_kill ? &killing : NULL);
	if (!signo)
		return;
	hold_for_call(a);
	if (killing)
		execution_kill(a->x, on_done, a);
	else
		execution_signal(a->x, signo, on_done, a);
}

static void take_control(struct attach *a, const uint8_t *data, size_t len)
{
	struct fields f;
	fields_parse(&f, data, len);
	const char *type = fields_string(&f, "type", 1, 32);
	if (!type)
		fields_fault(&f, "type", "is missing");
	else if (strcmp(type, "stdin_eof") == 0)
		execution_close_stdin(a->x);
	else if (strcmp(type, "resize") == 0)
		take_resize(a, &f);
	else if (strcmp(type, "signal") == 0)
		take_signal(a, &f);
	else
		fields_fault(&f, "type", "is none of resize, signal and stdin_eof");
	if (f.problem[0])
		send_error(a, f.problem);
	fields_finish(&f);
}

/* ---- the socket ---- */

static void on_open(void *arg, struct ws *w)
{
	struct attach *a = arg;
	a->ws = w;
	pump(a);
}

static void on_message(void *arg, bool text, const uint8_t *data, size_t len)
{
	if (text)
		take_control(arg, data, len);
	else
		take_stdin(arg, data, len);
}

static size_t on_ping(void *arg, uint8_t buf[125])
{
	struct attach *a = arg;
	if (!a->ended && holds_back(a) && uv_now(a->loop) - a->held_since > a->hold_ms) {
		flush(a, 1);
		flush(a, 2);
		a->position = reader_position(a->reader);
	}
	a->pinged = a->position;
	a->ping_out = true;
	uint64_t wire = htole64(a->position);
	memcpy(buf, &wire, sizeof wire);
	return sizeof wire;
}

static void on_pong(void *arg, const uint8_t *data, size_t len)
{
	struct attach *a = arg;
	uint64_t wire;
	if (len != sizeof wire)
		return;
	memcpy(&wire, data, sizeof wire);
	uint64_t position = le64toh(wire);
	if (position > a->pinged)
		return; /* not one of ours */
	execution_set_seen(a->x, position);
	a->ping_out = false;
	if (a->position != a->pinged && !a->ended)
		ws_ping(a->ws);
}

static void on_drained(void *arg)
{
	pump(arg);
}

static void on_closed(void *arg)
{
	struct attach *a = arg;
	a->ws = NULL;
	reader_close(a->reader);
	execution_on_stdin_drain(a->x, NULL, NULL);
	if (!a->ended)
		execution_detach(a->x);
	/* Whoever had this terminal has no name by which to come back to it. */
	if (!a->ended && a->raw)
		execution_signal(a->x, SIGHUP, NULL, NULL);
	execution_unref(a->x);
	release(a);
}

void rest_attach_to(struct rest *rest, struct http_request *r, struct execution *x, bool raw)
{
	static const struct ws_handler handler = {
		.open = on_open,
		.message = on_message,
		.ping = on_ping,
		.pong = on_pong,
		.drained = on_drained,
		.closed = on_closed,
	};
	uint64_t from;
	if (!rest_from(r, execution_seen(x), &from))
		return;
	if (!execution_attach(x)) {
		http_reply_error(r, HTTP_INVALID_STATE, "another client is attached to this execution");
		return;
	}
	struct err e = {.msg = "no memory"};
	struct attach *a = calloc(1, sizeof *a);
	if (!a || reader_open(&a->reader, x, from, on_more, a, &e) < 0) {
		free(a);
		execution_detach(x);
		http_reply_error(r, HTTP_STORAGE_ERROR, "%s", e.msg);
		return;
	}
	a->holds = 1;
	a->loop = rest->config.loop;
	a->hold_ms = rest->config.hold_ms;
	a->x = execution_ref(x);
	a->raw = raw;
	a->may_kill = http_has_numeric_codes(r);
	a->position = a->pinged = reader_position(a->reader);
	http_reply_ws(r, &handler, a);
}

void rest_attach(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (x && http_check_ws(r) == 0)
		rest_attach_to(app, r, x, false);
}
