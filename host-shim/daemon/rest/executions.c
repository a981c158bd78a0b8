#include <signal.h>
#include <stdlib.h>

#include "internal.h"

#define EXECUTIONS_DEFAULT 100
#define EXECUTIONS_MAX 10000

static const char *status_name(enum execution_status s)
{
	switch (s) {
	case EXECUTION_RUNNING:
		return "running";
	case EXECUTION_COMPLETED:
		return "completed";
	case EXECUTION_KILLED:
		return "killed";
	case EXECUTION_TIMED_OUT:
		return "timed_out";
	}
	return "unknown";
}

/* ---- exec ---- */

struct exec_call {
	struct http_request *r;
	struct exec_request q;
	bool wait;
};

static void on_started(void *arg, struct execution *x, const struct failure *f)
{
	struct exec_call *call = arg;
	struct http_request *r = call->r;
	if (f) {
		rest_reply_failure(r, f);
	} else {
		if (call->q.stdin_len)
			execution_write(x, call->q.stdin_text, call->q.stdin_len, NULL, NULL);
		if (call->q.stdin_text && (call->q.stdin_len || call->q.spec.tty))
			execution_close_stdin(x);
		rest_set_location(r, "/boxes/%s/executions/%s", http_param(r, "box"), execution_id(x));
		if (call->wait)
			rest_wait_execution(r, x);
		else
			http_reply_json(r, 201, json_pack("{s:s}", "execution_id", execution_id(x)));
	}
	exec_request_finish(&call->q);
	free(call);
}

void rest_exec(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	bool wait;
	if (!b || http_query_flag(r, "wait", &wait) < 0)
		return;
	struct exec_call *call = calloc(1, sizeof *call);
	if (!call) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	call->r = r;
	call->wait = wait;
	if (!exec_request_read(&call->q, r)) {
		free(call);
		return;
	}
	/* Nobody could write to it: it must not wait for what cannot come. */
	if (wait && !call->q.stdin_text) {
		call->q.stdin_text = "";
		call->q.spec.with_stdin = false;
	}
	call->q.spec.end_only = wait && !call->q.spec.with_stdin && !call->q.spec.tty;
	box_exec(b, &call->q.spec, on_started, call);
}

/* ---- status, kill, signal ---- */

json_t *rest_execution_json(const struct execution *x)
{
	struct execution_info i;
	execution_get_info(x, &i);
	json_t *o = json_pack("{s:s, s:s, s:o, s:I}", "execution_id", execution_id(x), "status",
			      status_name(i.status), "started_at", rest_time((int64_t)i.started_ms),
			      "position", (json_int_t)i.end);
	if (i.status != EXECUTION_RUNNING) {
		json_object_set_new(o, "exit_code", json_integer(i.exit_code));
		json_object_set_new(o, "duration_ms", json_integer((json_int_t)i.duration_ms));
		json_object_set_new(o, "ended_at", rest_time((int64_t)i.ended_ms));
	}
	if (i.reason[0])
		json_object_set_new(o, "error_message", json_string(i.reason));
	return o;
}

struct execution_list {
	struct execution **items;
	size_t count, size;
};

static void add_execution(void *arg, struct execution *x)
{
	struct execution_list *l = arg;
	if (l->count == l->size) {
		size_t size = l->size ? 2 * l->size : 64;
		struct execution **bigger = realloc(l->items, size * sizeof *bigger);
		if (!bigger)
			return;
		l->items = bigger;
		l->size = size;
	}
	l->items[l->count++] = x;
}

static int newest_first(const void *a, const void *b)
{
	struct execution_info x, y;
	execution_get_info(*(struct execution *const *)a, &x);
	execution_get_info(*(struct execution *const *)b, &y);
	return (x.started_ms < y.started_ms) - (x.started_ms > y.started_ms);
}

/* GET …/executions: those that run and those that are kept, the newest first. */
void rest_list_executions(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct box *b = rest_box(rest, r);
	uint64_t limit;
	if (!b || !rest_query_int(r, "limit", 1, EXECUTIONS_MAX, EXECUTIONS_DEFAULT, &limit))
		return;
	struct box_info box;
	struct execution_list list = {0};
	json_t *array = json_array();
	box_get_info(b, &box);
	executions_each(rest->config.executions, box.id, add_execution, &list);
	if (list.count)
		qsort(list.items, list.count, sizeof *list.items, newest_first);
	for (size_t i = 0; i < list.count && i < limit; i++)
		json_array_append_new(array, rest_execution_json(list.items[i]));
	free(list.items);
	http_reply_json(r, 200,
			json_pack("{s:o, s:b}", "executions", array, "truncated", list.count > limit));
}

void rest_get_execution(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (x)
		http_reply_json(r, 200, rest_execution_json(x));
}

void rest_delete_execution(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (x)
		execution_discard(x, rest_done, r);
}

void rest_signal(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (!x)
		return;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	struct fields f;
	fields_parse(&f, body, len);
	bool killing = false;
	/* Clients of the 2026-02 dialect have no other way to kill. */
	int signo = rest_read_signal(&f, "signal", http_has_numeric_codes(r) ? &killing : NULL);
	bool ok = rest_fields_ok(r, &f);
	if (ok && killing)
		execution_kill(x, rest_done, r);
	else if (ok)
		execution_signal(x, signo, rest_done, r);
	fields_finish(&f);
}

void rest_resize(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (!x)
		return;
	size_t len;
	const uint8_t *body = http_body(r, &len);
	struct fields f;
	fields_parse(&f, body, len);
	unsigned rows, cols;
	rest_read_size(&f, true, &rows, &cols);
	if (rest_fields_ok(r, &f))
		execution_resize(x, rows, cols, rest_done, r);
	fields_finish(&f);
}
