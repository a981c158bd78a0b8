#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* POST …/exec?wait=true: the whole of a command in one answer. What is beyond OUTPUT_MAX is read, so that the
 * command goes on, and left out. */

#define OUTPUT_MAX (8u << 20) /* of both channels together */
#define PIECE (64u << 10)

struct output {
	uint8_t *data;
	size_t len, size;
};

struct wait {
	struct http_request *r;
	struct execution *x;
	struct reader *reader;
	struct output outputs[2]; /* stdout, stderr */
	bool truncated;
};

static void wait_free(struct wait *w)
{
	reader_close(w->reader);
	execution_unref(w->x);
	free(w->outputs[0].data);
	free(w->outputs[1].data);
	free(w);
}

static void keep(struct wait *w, int channel, const uint8_t *data, size_t len)
{
	struct output *o = &w->outputs[channel - 1];
	size_t room = OUTPUT_MAX - w->outputs[0].len - w->outputs[1].len;
	if (len > room) {
		w->truncated = true;
		len = room;
	}
	if (o->len + len > o->size) {
		size_t size = o->size ? o->size : 4096;
		while (size < o->len + len)
			size *= 2;
		uint8_t *bigger = realloc(o->data, size);
		if (!bigger) {
			w->truncated = true;
			return;
		}
		o->data = bigger;
		o->size = size;
	}
	if (len)
		memcpy(o->data + o->len, data, len);
	o->len += len;
}

static void put_output(json_t *o, const char *name, const struct output *output)
{
	char encoding[32];
	const char *data = output->data ? (const char *)output->data : "";
	json_t *text = json_stringn(data, output->len); /* NULL if it is not UTF-8 */
	snprintf(encoding, sizeof encoding, "%s_encoding", name);
	json_object_set_new(o, encoding, json_string(text ? "utf-8" : "base64"));
	json_object_set_new(o, name, text ? text : rest_base64(data, output->len));
}

static void answer(struct wait *w)
{
	json_t *o = rest_execution_json(w->x);
	put_output(o, "stdout", &w->outputs[0]);
	put_output(o, "stderr", &w->outputs[1]);
	json_object_set_new(o, "truncated", json_boolean(w->truncated));
	http_reply_json(w->r, 200, o);
	wait_free(w);
}

static void on_more(void *arg)
{
	struct wait *w = arg;
	for (;;) {
		struct reader_item item;
		reader_next(w->reader, PIECE, &item);
		reader_load(w->reader, &item);
		switch (item.kind) {
		case READ_DATA:
			keep(w, item.channel, item.data, item.len);
			break;
		case READ_GAP:
			w->truncated = true;
			break;
		case READ_EXIT:
			answer(w);
			return;
		case READ_ERROR:
			http_reply_error(w->r, HTTP_STORAGE_ERROR, "the log of execution %s cannot be read",
					 execution_id(w->x));
			wait_free(w);
			return;
		case READ_WAIT:
			return;
		}
	}
}

/* The command goes on; its output is in its log. */
static void on_gone(void *arg)
{
	struct wait *w = arg;
	http_reply_empty(w->r, 204);
	wait_free(w);
}

void rest_wait_execution(struct http_request *r, struct execution *x)
{
	struct err e = {.msg = "no memory"};
	struct wait *w = calloc(1, sizeof *w);
	if (!w || reader_open(&w->reader, x, 0, on_more, w, &e) < 0) {
		free(w);
		http_reply_error(r, HTTP_STORAGE_ERROR, "%s", e.msg);
		return;
	}
	w->r = r;
	w->x = execution_ref(x);
	http_on_gone(r, on_gone, w);
	on_more(w);
}
