#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "limits.h"

/* GET …/exec/tty, of the 2026-02 dialect: a terminal over a WebSocket, begun by its upgrade. */

#define ARGS_MAX 1000
#define COMMAND_DEFAULT "bash"
#define ROWS_DEFAULT 24
#define COLS_DEFAULT 80

struct tty_call {
	struct rest *rest;
	struct http_request *r;
};

static void on_started(void *arg, struct execution *x, const struct failure *f)
{
	struct tty_call c = *(struct tty_call *)arg;
	free(arg);
	if (f) {
		rest_reply_failure(c.r, f);
		return;
	}
	rest_set_location(c.r, "/boxes/%s/executions/%s", http_param(c.r, "box"), execution_id(x));
	http_set_header(c.r, "x-boxlite-execution-id", execution_id(x));
	rest_attach_to(c.rest, c.r, x, true);
}

void rest_exec_tty(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	const char *argv[ARGS_MAX + 2] = {0};
	uint64_t rows, cols;
	if (!b || http_check_ws(r) < 0 ||
	    !rest_query_int(r, "rows", 1, LIMIT_TERMINAL, ROWS_DEFAULT, &rows) ||
	    !rest_query_int(r, "cols", 1, LIMIT_TERMINAL, COLS_DEFAULT, &cols))
		return;
	const char *command = http_query(r, "command");
	argv[0] = command ? command : COMMAND_DEFAULT;
	size_t n = http_query_all(r, "args", argv + 1, ARGS_MAX + 1);
	if (!*argv[0] || n > ARGS_MAX) {
		const char *field = *argv[0] ? "args" : "command";
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", field),
				      *argv[0] ? "args: at most %d" : "command: is empty", ARGS_MAX);
		return;
	}
	struct tty_call *c = malloc(sizeof *c);
	if (!c) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	*c = (struct tty_call){app, r};
	const struct exec_spec spec = {
		.argv = argv, .tty = true, .rows = (uint32_t)rows, .cols = (uint32_t)cols};
	box_exec(b, &spec, on_started, c);
}
