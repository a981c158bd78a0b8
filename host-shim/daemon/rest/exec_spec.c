#include <stdlib.h>

#include "internal.h"
#include "limits.h"

void rest_read_size(struct fields *f, bool required, unsigned *rows, unsigned *cols)
{
	static const char *const names[] = {"rows", "cols"};
	unsigned *const out[] = {rows, cols};
	for (int i = 0; i < 2; i++) {
		if (required && !fields_has(f, names[i]))
			fields_fault(f, names[i], "is missing");
		*out[i] = (unsigned)fields_int(f, names[i], 1, LIMIT_TERMINAL, 0);
	}
}

bool exec_request_parse(struct exec_request *q, const void *body, size_t len)
{
	*q = (struct exec_request){0};
	struct fields *f = &q->fields;
	fields_parse(f, body, len);
	const char *command = fields_string(f, "command", 1, 131071);
	if (!command)
		fields_fault(f, "command", "is missing");
	q->argv = rest_string_list(f, "args", command ? command : "", fields_array(f, "args"));
	q->env = rest_env_list(f, "env", fields_object(f, "env"));
	q->spec.argv = q->argv;
	q->spec.env = q->env;
	q->spec.cwd = fields_string(f, "working_dir", 1, 4095);
	if (q->spec.cwd && q->spec.cwd[0] != '/')
		fields_fault(f, "working_dir", "must be an absolute path");
	q->spec.timeout_ms =
		(uint32_t)(1000 * fields_number(f, "timeout_seconds", 0.001, LIMIT_SECONDS, 0) + 0.999);
	json_t *text = json_object_get(f->object, "stdin");
	q->stdin_text = fields_string(f, "stdin", 0, HTTP_BODY_DEFAULT);
	q->stdin_len = json_string_length(text);
	/* An empty input is /dev/null. Without the field the pipe stays open for attach or POST …/input. */
	q->spec.with_stdin = !q->stdin_text || q->stdin_len > 0;
	q->spec.tty = fields_bool(f, "tty", false);
	rest_read_size(f, false, &q->spec.rows, &q->spec.cols);
	if (!q->spec.tty && (q->spec.rows || q->spec.cols))
		fields_fault(f, "rows", "is for a terminal: tty must be true");
	q->rules = rest_read_confinement(f, &q->spec);
	return fields_done(f);
}

bool exec_request_read(struct exec_request *q, struct http_request *r)
{
	size_t len;
	const uint8_t *body = http_body(r, &len);
	exec_request_parse(q, body, len);
	bool ok = rest_fields_ok(r, &q->fields);
	if (ok && (!q->argv || !q->env)) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		ok = false;
	}
	if (!ok)
		exec_request_finish(q);
	return ok;
}

void exec_request_finish(struct exec_request *q)
{
	free(q->argv);
	free(q->env);
	free(q->rules);
	fields_finish(&q->fields);
}
