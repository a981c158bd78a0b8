#include <stdlib.h>

#include "internal.h"

/* GET …/output: the log of an execution as server-sent events. The id of an event is the log position after
 * it. */
struct output {
	struct execution *x;
	struct reader *reader;
	struct sse *sse; /* NULL until it is first asked for events */
};

static void on_more(void *arg)
{
	struct output *o = arg;
	if (o->sse)
		sse_wake(o->sse);
}

static void put_exit(struct output *o, struct sse *s, uint64_t position)
{
	struct execution_info i;
	execution_get_info(o->x, &i);
	json_t *exit =
		json_pack("{s:i, s:I}", "exit_code", i.exit_code, "duration_ms", (json_int_t)i.duration_ms);
	if (i.reason[0])
		json_object_set_new(exit, "error", json_string(i.reason));
	sse_put_json(s, "exit", position, exit);
	json_decref(exit);
}

static void put_gap(struct sse *s, const struct reader_item *item)
{
	json_t *gap =
		json_pack("{s:I, s:I}", "from", (json_int_t)item->gap_from, "to", (json_int_t)item->gap_to);
	sse_put_json(s, "gap", item->position, gap);
	json_decref(gap);
}

static void put_error(struct sse *s, uint64_t position)
{
	json_t *error = json_pack("{s:s}", "message", "the log of this execution cannot be read");
	sse_put_json(s, "error", position, error);
	json_decref(error);
}

static bool on_fill(void *arg, struct sse *s)
{
	struct output *o = arg;
	o->sse = s;
	while (sse_room(s) >= SSE_ROOM_MIN) {
		struct reader_item item;
		reader_next(o->reader, sse_room(s), &item);
		reader_load(o->reader, &item);
		switch (item.kind) {
		case READ_DATA:
			sse_put_data(s, item.channel == 2 ? "stderr" : "stdout", item.position, item.data,
				     item.len);
			break;
		case READ_GAP:
			put_gap(s, &item);
			break;
		case READ_EXIT:
			put_exit(o, s, item.position);
			return false;
		case READ_ERROR:
			put_error(s, reader_position(o->reader));
			return false;
		case READ_WAIT:
			return true;
		}
	}
	return true;
}

static void on_closed(void *arg)
{
	struct output *o = arg;
	reader_close(o->reader);
	execution_unref(o->x);
	free(o);
}

void rest_output(void *app, struct http_request *r)
{
	static const struct sse_source source = {.fill = on_fill, .closed = on_closed};
	struct execution *x = rest_execution(app, r);
	if (!x)
		return;
	uint64_t from = 0;
	const char *last = http_header(r, "Last-Event-ID");
	if (last && !rest_parse_position(last, &from)) {
		http_reply_error(r, HTTP_INVALID_ARGUMENT,
				 "Last-Event-ID must be the id of an event of this stream");
		return;
	}
	if (!rest_from(r, from, &from))
		return;
	struct err e = {.msg = "no memory"};
	struct output *o = calloc(1, sizeof *o);
	if (!o || reader_open(&o->reader, x, from, on_more, o, &e) < 0) {
		free(o);
		http_reply_error(r, HTTP_STORAGE_ERROR, "%s", e.msg);
		return;
	}
	o->x = execution_ref(x);
	http_reply_sse(r, &source, o);
}
