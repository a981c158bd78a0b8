/* tenon pull, load, images, rmi. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "proto/cleanup.h"
#include "pull.h"

static const char *text(const json_t *o, const char *field)
{
	const char *s = json_string_value(json_object_get(o, field));
	return s && *s ? s : "-";
}

static int finish(struct api *a, json_t *image, const struct api_error *e)
{
	int code = image ? 0 : complain("%s", e->message);
	if (image)
		printf("%s %s\n", text(image, "reference"), text(image, "id"));
	json_decref(image);
	api_finish(a);
	return code;
}

/* The first line of stdin: never an argument, which everybody on this machine can see. */
static json_t *read_auth(const char *user)
{
	char password[4096];
	if (!fgets(password, sizeof password, stdin))
		return NULL;
	password[strcspn(password, "\r\n")] = '\0';
	json_t *auth = json_pack("{s:s, s:s}", "username", user, "password", password);
	explicit_bzero(password, sizeof password);
	return auth;
}

int command_pull(const struct globals *g, int argc, char **argv)
{
	static const char usage[] =
		"usage: tenon pull [-u USER] IMAGE    (USER's password is read from stdin)";
	struct api a;
	struct api_error e;
	const char *user = NULL;
	for (int c; (c = getopt(argc, argv, "+u:")) != -1;) {
		if (c != 'u')
			return complain(usage);
		user = optarg;
	}
	if (optind + 1 != argc)
		return complain(usage);
	json_t *body = json_pack("{s:s}", "reference", argv[optind]);
	json_t *auth = user ? read_auth(user) : NULL;
	if (!body || (user && !auth)) {
		json_decref(body);
		return complain(body ? "no password on stdin, or none that is UTF-8" : "no UTF-8 text: %s",
				argv[optind]);
	}
	if (auth)
		json_object_set_new(body, "auth", auth);
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0) {
		json_decref(body);
		return complain("%s", e.message);
	}
	return finish(&a, pull_follow(&a, "/images/pull", body, -1, &e), &e);
}

static bool is_transport(const char *source)
{
	static const char *const known[] = {"oci:", "oci-archive:", "docker-archive:", "docker-daemon:"};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strncmp(source, known[i], strlen(known[i])) == 0)
			return true;
	return false;
}

int command_load(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	if (argc != 3)
		return complain("usage: tenon load ARCHIVE|-|TRANSPORT:PLACE IMAGE");
	const char *source = argv[1];
	bool there = is_transport(source), in = strcmp(source, "-") == 0;
	_cleanup_close_ int file = there || in ? -1 : open(source, O_RDONLY | O_CLOEXEC);
	if (!there && !in && file < 0)
		return complain("%s: %m", source);
	_cleanup_free_ char *name = api_escape(argv[2]), *path = NULL;
	if (!name || asprintf(&path, "/images/load?reference=%s", name) < 0)
		return complain("no memory");
	json_t *body = there ? json_pack("{s:s, s:s}", "reference", argv[2], "transport", source) : NULL;
	if (there && !body)
		return complain("what was given is not UTF-8 text");
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0) {
		json_decref(body);
		return complain("%s", e.message);
	}
	return finish(&a, pull_follow(&a, there ? "/images/pull" : path, body, in ? STDIN_FILENO : file, &e),
		      &e);
}

int command_images(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	size_t i;
	json_t *image;
	(void)argv;
	if (argc > 1)
		return complain("usage: tenon images");
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	json_t *list = api_call(&a, "GET", NULL, &e, "/images");
	int code = list ? 0 : complain("%s", e.message);
	if (list)
		printf("%-56s %-20s %10s %5s %s\n", "IMAGE", "DIGEST", "SIZE", "BOXES", "CACHED");
	json_array_foreach (json_object_get(list, "images"), i, image)
		printf("%-56s %.19s… %8.1fMB %5lld %s\n", text(image, "reference"), text(image, "id"),
		       (double)json_integer_value(json_object_get(image, "size_bytes")) / 1e6,
		       (long long)json_integer_value(json_object_get(image, "boxes")),
		       text(image, "cached_at"));
	json_decref(list);
	api_finish(&a);
	return code;
}

int command_rmi(const struct globals *g, int argc, char **argv)
{
	if (argc < 2)
		return complain("usage: tenon rmi IMAGE...");
	return remove_each(g, "images", argv + 1, "");
}
