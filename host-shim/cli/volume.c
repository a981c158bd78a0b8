#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "proto/cleanup.h"
#include "volume.h"

#define USAGE "usage: tenon volume create [NAME] | ls [-q] | rm [-f] VOLUME..."

static const char *text(json_t *o, const char *field)
{
	const char *s = json_string_value(json_object_get(o, field));
	return s ? s : "-";
}

static int create(struct api *a, int argc, char **argv)
{
	struct api_error e;
	if (argc > 2)
		return complain(USAGE);
	json_t *body = json_pack("{s:s*}", "name", argc > 1 ? argv[1] : NULL);
	json_t *v = body ? api_call(a, "POST", body, &e, "/volumes") : NULL;
	if (!v)
		return complain("%s", body ? e.message : "the name is not UTF-8 text");
	puts(text(v, "name"));
	json_decref(v);
	return 0;
}

static int list(struct api *a, int argc, char **argv)
{
	struct api_error e;
	bool quiet = argc == 2 && strcmp(argv[1], "-q") == 0;
	if (argc > 1 && !quiet)
		return complain(USAGE);
	json_t *l = api_call(a, "GET", NULL, &e, "/volumes"), *v;
	if (!l)
		return complain("%s", e.message);
	if (!quiet)
		printf("%-32s %-31s %s\n", "VOLUME", "NAME", "CREATED");
	size_t i;
	json_array_foreach (json_object_get(l, "volumes"), i, v) {
		if (quiet)
			puts(text(v, "name"));
		else
			printf("%-32s %-31s %s\n", text(v, "id"), text(v, "name"), text(v, "created_at"));
	}
	json_decref(l);
	return 0;
}

static int remove_all(struct api *a, int argc, char **argv)
{
	struct api_error e;
	bool force = argc > 1 && strcmp(argv[1], "-f") == 0;
	int code = 0;
	if (argc < 2 + force)
		return complain(USAGE);
	for (char **name = argv + 1 + force; *name; name++) {
		_cleanup_free_ char *segment = api_escape(*name);
		json_t *gone = segment ? api_call(a, "DELETE", NULL, &e, "/volumes/%s%s", segment,
						  force ? "?force=true" : "")
				       : NULL;
		if (gone)
			puts(*name);
		else
			code = complain("%s: %s", *name, e.message);
		json_decref(gone);
	}
	return code;
}

int command_volume(const struct globals *g, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct api *a, int argc, char **argv);
	} verbs[] = {{"create", create}, {"ls", list}, {"rm", remove_all}};
	struct api a;
	struct api_error e;
	for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
			return complain("%s", e.message);
		int code = verbs[i].run(&a, argc - 1, argv + 1);
		api_finish(&a);
		return code;
	}
	return complain(USAGE);
}

/* ---- -v ---------------------------------------------------------------------------------------------- */

int volume_option(json_t *volumes, const char *option)
{
	const char *colon = strchr(option, ':'), *path = colon ? colon + 1 : "";
	const char *mode = strchr(path, ':');
	size_t len = mode ? (size_t)(mode - path) : strlen(path);
	bool read_only = mode && strcmp(mode, ":ro") == 0;
	if (strchr("/.~", option[0]))
		return complain(
			"-v %s: folders of the host are not mounted, only volumes by name (tenon volume "
			"create), and tenon cp copies",
			option);
	if (colon == option || *path != '/' || (mode && !read_only && strcmp(mode, ":rw") != 0))
		return complain("-v wants VOLUME:/PATH, perhaps with :ro behind it, not %s", option);
	json_t *m = json_pack("{s:s%, s:s%, s:b}", "managed_volume", option, (size_t)(colon - option),
			      "guest_path", path, len, "read_only", (int)read_only);
	return m && json_array_append_new(volumes, m) == 0 ? 0 : complain("-v %s is not UTF-8 text", option);
}

int volume_make_missing(struct api *a, const json_t *volumes, struct api_error *e)
{
	size_t i;
	const json_t *m;
	json_array_foreach (volumes, i, m) {
		const char *name = json_string_value(json_object_get(m, "managed_volume"));
		_cleanup_free_ char *segment = api_escape(name);
		json_t *v = segment ? api_call(a, "GET", NULL, e, "/volumes/%s", segment) : NULL;
		if (!v && e->status == 404) {
			v = api_call(a, "POST", json_pack("{s:s}", "name", name), e, "/volumes");
			/* Somebody else was faster: it is there. */
			if (!v && e->status == 409)
				v = json_object();
		}
		if (!v)
			return -1;
		json_decref(v);
	}
	return 0;
}
