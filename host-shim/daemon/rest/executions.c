#include <signal.h>
#include <stdlib.h>

#include "internal.h"
#include "limits.h"

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
};

static void on_started(void *arg, struct execution *x, const struct failure *f)
{
	struct exec_call *call = arg;
	struct http_request *r = call->r;
	if (f) {
		rest_reply_failure(r, f);
	} else {
		if (call->q.stdin_len) {
			execution_write(x, call->q.stdin_text, call->q.stdin_len, NULL, NULL);
			execution_close_stdin(x);
		}
		rest_set_location(r, "/boxes/%s/executions/%s", http_param(r, "box"), execution_id(x));
		http_reply_json(r, 201, json_pack("{s:s}", "execution_id", execution_id(x)));
	}
	exec_request_finish(&call->q);
	free(call);
}

void rest_exec(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	struct exec_call *call = b ? calloc(1, sizeof *call) : NULL;
	if (!b)
		return;
	if (!call) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	call->r = r;
	struct box_info i;
	box_get_info(b, &i);
	if (i.executions >= LIMIT_EXECUTIONS) {
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED, "%u executions run in this box, and no more may",
				 i.executions);
		free(call);
		return;
	}
	if (exec_request_read(&call->q, r))
		box_exec(b, &call->q.spec, on_started, call);
	else
		free(call);
}

/* ---- status, kill, signal ---- */

void rest_get_execution(void *app, struct http_request *r)
{
	struct execution *x = rest_execution(app, r);
	if (!x)
		return;
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
	http_reply_json(r, 200, o);
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
	if (!fields_has(&f, "signal"))
		fields_fault(&f, "signal", "is missing");
	int64_t signo = fields_int(&f, "signal", INT32_MIN, INT32_MAX, 0);
	/* Clients of the 2026-02 dialect have no other way to kill. */
	bool kill = signo == SIGKILL && http_has_numeric_codes(r);
	if (!kill && !rest_signal_allowed(signo))
		fields_fault(&f, "signal", "must be %s; to kill, DELETE the execution", REST_SIGNALS);
	bool ok = rest_fields_ok(r, &f);
	if (ok && kill)
		execution_kill(x, rest_done, r);
	else if (ok)
		execution_signal(x, (int)signo, rest_done, r);
	fields_finish(&f);
}
