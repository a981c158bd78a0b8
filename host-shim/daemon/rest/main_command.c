#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* The main command of a box: what create says of it, and the way to it. */

#define ID_HEADER "x-boxlite-execution-id"

static char **read_list(struct fields *f, const char *name)
{
	json_t *array = fields_array(f, name), *item;
	size_t i;
	if (!array)
		return NULL;
	char **list = calloc(json_array_size(array) + 1, sizeof *list);
	json_array_foreach (array, i, item) {
		const char *text = json_string_value(item);
		if (!text || strlen(text) != json_string_length(item))
			fields_fault(f, name, "has an item %zu that is no string without NUL", i);
		else if (list)
			list[i] = strdup(text);
		if (!list || !list[i])
			break;
	}
	return list;
}

/* docker's form, which the box's own files give a meaning to, once it runs. */
static char *read_user(struct fields *f)
{
	const char *user = fields_string(f, "user", 0, 255);
	return user && *user ? strdup(user) : NULL;
}

void rest_read_main(struct fields *f, struct box_settings *s)
{
	s->entrypoint = read_list(f, "entrypoint");
	s->cmd = read_list(f, "cmd");
	s->image_command = fields_bool(f, "image_command", false);
	s->tty = fields_bool(f, "tty", false);
	s->no_stdin = !fields_bool(f, "open_stdin", true);
	s->user = read_user(f);
	const char *preset = rest_read_preset(f);
	s->preset = preset ? strdup(preset) : NULL;
}

ProtobufCBinaryData rest_owner(struct box *b)
{
	struct box_info i;
	box_get_info(b, &i);
	return (ProtobufCBinaryData){i.user ? strlen(i.user) : 0, (uint8_t *)(uintptr_t)i.user};
}

/* ---- attach ---- */

struct main_call {
	struct rest *rest;
	struct http_request *r;
};

static void on_main(void *arg, struct execution *x, const struct failure *f)
{
	struct main_call c = *(struct main_call *)arg;
	free(arg);
	if (f) {
		rest_reply_failure(c.r, f);
		return;
	}
	http_set_header(c.r, ID_HEADER, execution_id(x));
	rest_attach_to(c.rest, c.r, x, false);
}

void rest_attach_main(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	if (!b || http_check_ws(r) < 0)
		return;
	struct main_call *c = malloc(sizeof *c);
	if (!c) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	*c = (struct main_call){app, r};
	box_main(b, on_main, c);
}
