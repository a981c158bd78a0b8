#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "proto/cleanup.h"

static const char *text(json_t *box, const char *field)
{
	const char *s = json_string_value(json_object_get(box, field));
	return s && *s ? s : "-";
}

int command_ps(const struct globals *g, int argc, char **argv)
{
	(void)argv;
	struct api a;
	struct api_error e;
	if (argc > 1)
		return complain("usage: tenon ps");
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	json_t *list = api_call(&a, "GET", NULL, &e, "/boxes");
	int code = list ? 0 : complain("%s", e.message);
	size_t i;
	json_t *box;
	if (list)
		printf("%-34s %-20s %-24s %-11s %s\n", "BOX", "NAME", "IMAGE", "STATUS", "CREATED");
	json_array_foreach (json_object_get(list, "boxes"), i, box)
		printf("%-34s %-20s %-24s %-11s %s\n", text(box, "box_id"), text(box, "name"),
		       text(box, "image"), text(box, "status"), text(box, "created_at"));
	json_decref(list);
	api_finish(&a);
	return code;
}

int remove_each(const struct globals *g, const char *what, char **names, const char *query)
{
	struct api a;
	struct api_error e = {0};
	int code = 0;
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	for (; *names; names++) {
		_cleanup_free_ char *segment = api_escape(*names);
		json_t *gone =
			segment ? api_call(&a, "DELETE", NULL, &e, "/%s/%s%s", what, segment, query) : NULL;
		if (gone)
			puts(*names);
		else
			code = complain("%s: %s", *names, e.message);
		json_decref(gone);
	}
	api_finish(&a);
	return code;
}

int command_rm(const struct globals *g, int argc, char **argv)
{
	bool force = false;
	for (int c; (c = getopt(argc, argv, "+f")) != -1;) {
		if (c != 'f')
			return complain("usage: tenon rm [-f] BOX...");
		force = true;
	}
	if (optind == argc)
		return complain("usage: tenon rm [-f] BOX...");
	return remove_each(g, "boxes", argv + optind, force ? "?force=true" : "");
}
