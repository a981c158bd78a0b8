/* tenon snapshot, clone, export and import. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "proto/cleanup.h"
#include "transfer.h"

#define SNAPSHOT_USAGE                                                                     \
	"usage: tenon snapshot create BOX NAME, tenon snapshot ls BOX, tenon snapshot rm " \
	"BOX NAME, tenon snapshot restore BOX NAME"

/* ---- snapshot ---- */

static int print_list(const json_t *answer)
{
	size_t i;
	const json_t *s;
	printf("%-32s %-24s %12s\n", "SNAPSHOT", "CREATED", "SIZE");
	json_array_foreach (json_object_get(answer, "snapshots"), i, s) {
		time_t at = (time_t)json_integer_value(json_object_get(s, "created_at"));
		struct tm tm;
		char text[32];
		gmtime_r(&at, &tm);
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
		printf("%-32s %-24s %8lld KiB\n", json_string_value(json_object_get(s, "name")), text,
		       (long long)json_integer_value(json_object_get(s, "size_bytes")) / 1024);
	}
	return 0;
}

int command_snapshot(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	json_t *answer = NULL;
	const char *verb = argc > 1 ? argv[1] : "", *name = argc == 4 ? argv[3] : NULL;
	bool list = strcmp(verb, "ls") == 0;
	bool known = list || strcmp(verb, "create") == 0 || strcmp(verb, "rm") == 0 ||
		     strcmp(verb, "restore") == 0;
	if (!known || argc != (list ? 3 : 4))
		return complain(SNAPSHOT_USAGE);
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	_cleanup_free_ char *box = api_escape(argv[2]), *segment = name ? api_escape(name) : NULL;
	if (list)
		answer = api_call(&a, "GET", NULL, &e, "/boxes/%s/snapshots", box);
	else if (strcmp(verb, "create") == 0)
		answer = api_call(&a, "POST", json_pack("{s:s}", "name", name), &e, "/boxes/%s/snapshots",
				  box);
	else if (strcmp(verb, "rm") == 0)
		answer = api_call(&a, "DELETE", NULL, &e, "/boxes/%s/snapshots/%s", box, segment);
	else
		answer = api_call(&a, "POST", NULL, &e, "/boxes/%s/snapshots/%s/restore", box, segment);
	int code = !answer ? complain("%s", e.message) : list ? print_list(answer) : (puts(name), 0);
	json_decref(answer);
	api_finish(&a);
	return code;
}

/* ---- clone ---- */

static int print_box(const json_t *box)
{
	puts(json_string_value(json_object_get(box, "box_id")));
	return 0;
}

/* The one option of clone and import, and the one argument; false: neither. */
static bool read_name(int argc, char **argv, const char **name)
{
	static const struct option options[] = {{"name", required_argument, NULL, 'n'}, {0}};
	*name = NULL;
	for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
		if (c != 'n')
			return false;
		*name = optarg;
	}
	return optind + 1 == argc;
}

int command_clone(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	const char *name;
	if (!read_name(argc, argv, &name))
		return complain("usage: tenon clone [--name NAME] BOX");
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	_cleanup_free_ char *box = api_escape(argv[optind]);
	json_t *answer = api_call(&a, "POST", json_pack("{s:s?}", "name", name), &e, "/boxes/%s/clone", box);
	int code = answer ? print_box(answer) : complain("%s", e.message);
	json_decref(answer);
	api_finish(&a);
	return code;
}

/* ---- export ---- */

static int fetch(const struct api *a, const char *box, int fd)
{
	struct transfer t = {.fd = fd};
	_cleanup_free_ char *segment = api_escape(box), *path = NULL;
	if (!segment || asprintf(&path, "/boxes/%s/export", segment) < 0 || !(t.curl = api_handle(a, path)))
		return complain("no memory");
	transfer_receive(&t);
	curl_easy_setopt(t.curl, CURLOPT_POSTFIELDS, "");
	int code = transfer_perform(&t);
	curl_easy_cleanup(t.curl);
	return code;
}

/* Under another name until it is whole. */
static int fetch_file(const struct api *a, const char *box, const char *file)
{
	_cleanup_free_ char *part = NULL;
	if (asprintf(&part, "%s.part", file) < 0)
		return complain("no memory");
	_cleanup_close_ int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return complain("%s: %s", part, strerror(errno));
	int code = fetch(a, box, fd);
	if (code == 0 && (fsync(fd) < 0 || rename(part, file) < 0))
		code = complain("%s: %s", file, strerror(errno));
	if (code != 0)
		unlink(part);
	return code;
}

int command_export(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	_cleanup_free_ char *file = NULL;
	const char *to = NULL;
	for (int c; (c = getopt(argc, argv, "+o:")) != -1;) {
		if (c != 'o')
			argc = 0;
		to = optarg;
	}
	if (optind + 1 != argc)
		return complain("usage: tenon export [-o FILE|-] BOX");
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	if (asprintf(&file, to ? "%s" : "%s.boxlite", to ? to : argv[optind]) < 0)
		return complain("no memory");
	signal(SIGPIPE, SIG_IGN);
	int code = strcmp(file, "-") == 0 ? fetch(&a, argv[optind], STDOUT_FILENO)
					  : fetch_file(&a, argv[optind], file);
	api_finish(&a);
	return code;
}

/* ---- import ---- */

static int send_archive(const struct api *a, int fd, const char *name)
{
	struct transfer t = {.fd = fd};
	_cleanup_free_ char *segment = name ? api_escape(name) : NULL, *path = NULL;
	if (asprintf(&path, "/boxes/import%s%s", name ? "?name=" : "", name ? segment : "") < 0 ||
	    !(t.curl = api_handle(a, path)))
		return complain("no memory");
	transfer_receive(&t);
	transfer_send(&t);
	curl_easy_setopt(t.curl, CURLOPT_CUSTOMREQUEST, "POST");
	int code = transfer_perform(&t);
	json_t *box = code == 0 ? json_loadb(t.reply, t.reply_len, 0, NULL) : NULL;
	if (code == 0)
		code = box ? print_box(box) : complain("the daemon's answer is not JSON");
	json_decref(box);
	curl_easy_cleanup(t.curl);
	return code;
}

int command_import(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	const char *name;
	if (!read_name(argc, argv, &name))
		return complain("usage: tenon import [--name NAME] FILE|-");
	_cleanup_close_ int file = -1;
	bool from_stdin = strcmp(argv[optind], "-") == 0;
	if (!from_stdin && (file = open(argv[optind], O_RDONLY | O_CLOEXEC)) < 0)
		return complain("%s: %s", argv[optind], strerror(errno));
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	int code = send_archive(&a, from_stdin ? STDIN_FILENO : file, name);
	api_finish(&a);
	return code;
}
