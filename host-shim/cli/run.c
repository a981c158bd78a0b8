#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "follow.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "pull.h"
#include "terminal.h"
#include "volume.h"

struct run {
	bool remove, interactive, tty, timing, detach;
	const char *name, *workdir, *user, *entrypoint;
	const char *network; /* "enabled", "disabled"; NULL: as tenond has it */
	json_t *env, *volumes;
	double boot, exec; /* seconds */
};

/* "NAME=value", or "NAME" for the value it has here. */
static int add_env(struct run *o, const char *text)
{
	const char *equals = strchr(text, '=');
	const char *value = equals ? equals + 1 : getenv(text);
	if (equals == text || !*text)
		return complain("--env wants NAME=value, not %s", text);
	_cleanup_free_ char *name = equals ? strndup(text, (size_t)(equals - text)) : strdup(text);
	if (value && json_object_set_new(o->env, name, json_string(value)) < 0)
		return complain("--env %s is not UTF-8 text", name);
	return 0;
}

/* docker's words. */
static int read_network(struct run *o, const char *word)
{
	if (strcmp(word, "none") == 0)
		o->network = "disabled";
	else if (strcmp(word, "default") == 0 || strcmp(word, "bridge") == 0)
		o->network = "enabled";
	else
		return complain("--network %s: none or default", word);
	return 0;
}

static int read_options(struct run *o, int argc, char **argv, const char *usage, const char *short_options)
{
	static const struct option options[] = {
		{"rm", no_argument, NULL, 'r'},
		{"name", required_argument, NULL, 'n'},
		{"env", required_argument, NULL, 'e'},
		{"workdir", required_argument, NULL, 'w'},
		{"user", required_argument, NULL, 'u'},
		{"interactive", no_argument, NULL, 'i'},
		{"tty", no_argument, NULL, 't'},
		{"volume", required_argument, NULL, 'v'},
		{"network", required_argument, NULL, 'N'},
		{"timing", no_argument, NULL, 'T'},
		{"entrypoint", required_argument, NULL, 'E'},
		{"detach", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool whole_run = strchr(short_options, 'r');
	for (int c; (c = getopt_long(argc, argv, short_options, options, NULL)) != -1;) {
		if (!whole_run && strchr("rnvNEd", c))
			c = '?';
		switch (c) {
		case 'r':
			o->remove = true;
			break;
		case 'n':
			o->name = optarg;
			break;
		case 'e':
			if (add_env(o, optarg))
				return EXIT_TENON;
			break;
		case 'v':
			if (volume_option(o->volumes, optarg))
				return EXIT_TENON;
			break;
		case 'w':
			o->workdir = optarg;
			break;
		case 'i':
			o->interactive = true;
			break;
		case 'u':
			o->user = optarg;
			break;
		case 't':
			o->tty = true;
			break;
		case 'N':
			if (read_network(o, optarg))
				return EXIT_TENON;
			break;
		case 'T':
			o->timing = true;
			break;
		case 'E':
			o->entrypoint = optarg;
			break;
		case 'd':
			o->detach = true;
			break;
		case 'h':
			printf("usage: tenon %s\n", usage);
			exit(0);
		default:
			return complain("usage: tenon %s", usage);
		}
	}
	/* The target and, with or without "--" between them, the command. */
	if (optind < argc - 1 && strcmp(argv[optind + 1], "--") == 0) {
		argv[optind + 1] = argv[optind];
		optind++;
	}
	/* An image may say what it runs; a box does not. */
	if (optind >= argc || (!whole_run && optind + 1 == argc))
		return complain("usage: tenon %s", usage);
	if (o->tty && o->interactive && !terminal_is())
		return complain("-it needs a terminal, and stdin is none; -i alone takes any input");
	return 0;
}

/* The other terminal looks like ours: programs there draw for it. */
static void add_term(struct run *o)
{
	const char *term = getenv("TERM");
	if (o->tty && term && !json_object_get(o->env, "TERM"))
		json_object_set_new(o->env, "TERM", json_string(term));
}

static json_t *list_of(char *const *words)
{
	json_t *list = json_array();
	for (; list && *words; words++)
		if (json_array_append_new(list, json_string(*words)) < 0) {
			json_decref(list);
			list = NULL;
		}
	return list;
}

/* tenon's exit code for a command that did not start. */
static int not_started(const struct api_error *e)
{
	complain("%s", e->message);
	if (e->status != 422)
		return EXIT_TENON;
	return e->errnum == ENOENT ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
}

/* Stays until the execution ends. */
static int stay(struct api *a, struct run *o, const char *box_segment, const char *id)
{
	struct api_error e;
	_cleanup_free_ char *path = NULL;
	int code = -1;
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	snprintf(e.message, sizeof e.message, "no memory");
	if (asprintf(&path, "/boxes/%s/executions/%s", box_segment, id ? id : "") > 0)
		code = follow(a, path, o->interactive, o->tty, &e);
	o->exec += (double)(clock_ns(CLOCK_MONOTONIC) - began) / NSEC_PER_SEC;
	return code < 0 ? complain("%s", e.message) : code;
}

/* Runs argv in the box and stays until it ends. */
static int exec_in(struct api *a, struct run *o, const char *box, char **argv)
{
	struct api_error e;
	_cleanup_free_ char *segment = api_escape(box);
	add_term(o);
	json_t *args = list_of(argv + 1);
	json_t *body =
		args ? json_pack("{s:s, s:o, s:O}", "command", argv[0], "args", args, "env", o->env) : NULL;
	if (!body || !segment)
		return complain("the command is not UTF-8 text");
	if (o->workdir)
		json_object_set_new(body, "working_dir", json_string(o->workdir));
	if (o->user)
		json_object_set_new(body, "user", json_string(o->user));
	if (!o->interactive)
		json_object_set_new(body, "stdin", json_string(""));
	unsigned rows, cols;
	if (o->tty)
		json_object_set_new(body, "tty", json_true());
	if (o->tty && terminal_size(&rows, &cols)) {
		json_object_set_new(body, "rows", json_integer(rows));
		json_object_set_new(body, "cols", json_integer(cols));
	}
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	json_t *started = api_call(a, "POST", body, &e, "/boxes/%s/exec", segment);
	if (!started)
		return not_started(&e);
	o->exec = (double)(clock_ns(CLOCK_MONOTONIC) - began) / NSEC_PER_SEC;
	int code = stay(a, o, segment, json_string_value(json_object_get(started, "execution_id")));
	json_decref(started);
	return code;
}

/* From here on signals are for the command, and a closed pipe is an error to be seen. */
static void hold_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* The box whose main command argv is, as docker makes a container of an image. NULL: not UTF-8. */
static json_t *new_box(struct run *o, const char *image, char **argv)
{
	add_term(o);
	json_t *body = json_pack("{s:s, s:O, s:O, s:b, s:b, s:b}", "image", image, "env", o->env, "volumes",
				 o->volumes, "tty", (int)o->tty, "open_stdin", (int)o->interactive,
				 "auto_remove", (int)(o->remove && o->detach));
	if (!body)
		return NULL;
	if (o->name)
		json_object_set_new(body, "name", json_string(o->name));
	if (o->workdir)
		json_object_set_new(body, "working_dir", json_string(o->workdir));
	if (o->user)
		json_object_set_new(body, "user", json_string(o->user));
	/* --entrypoint "" clears the image's. */
	if (o->entrypoint)
		json_object_set_new(body, "entrypoint",
				    *o->entrypoint ? json_pack("[s]", o->entrypoint) : json_array());
	json_t *cmd = *argv ? list_of(argv) : NULL;
	if (*argv && !cmd) {
		json_decref(body);
		return NULL;
	}
	if (cmd)
		json_object_set_new(body, "cmd", cmd);
	else if (!o->entrypoint)
		json_object_set_new(body, "image_command", json_true());
	return body;
}

/* The main command ends the box; a box without one stays, if nobody waits for it. */
static int run_main(struct api *a, struct run *o, const char *segment, const char *id)
{
	struct api_error e;
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	json_t *box = api_call(a, "POST", NULL, &e, "/boxes/%s/start", segment);
	o->boot = (double)(clock_ns(CLOCK_MONOTONIC) - began) / NSEC_PER_SEC;
	if (!box)
		return not_started(&e);
	const char *main_id = json_string_value(json_object_get(box, "main_execution_id"));
	int code = 0;
	if (o->detach)
		puts(id);
	else if (main_id)
		code = stay(a, o, segment, main_id);
	else
		code = complain("the image says no command: give one");
	json_decref(box);
	return code;
}

static int run_in_new_box(struct api *a, struct run *o, const char *image, char **argv)
{
	struct api_error e;
	json_t *body = new_box(o, image, argv);
	if (!body)
		return complain("the command, or the image's name, is not UTF-8 text");
	/* Making the box would fetch it too, but within one call, and without a word until then. */
	if (pull_if_missing(a, image)) {
		json_decref(body);
		return EXIT_TENON;
	}
	if (volume_make_missing(a, o->volumes, &e) < 0) {
		json_decref(body);
		return complain("%s", e.message);
	}
	if (o->network)
		json_object_set_new(body, "network", json_string(o->network));
	json_t *box = api_call(a, "POST", body, &e, "/boxes");
	if (!box)
		return complain("%s", e.message);
	const char *id = json_string_value(json_object_get(box, "box_id"));
	_cleanup_free_ char *segment = api_escape(id ? id : "");
	int code = run_main(a, o, segment, id);
	if (o->remove && (!o->detach || code)) {
		json_t *gone = api_call(a, "DELETE", NULL, &e, "/boxes/%s?force=true", segment);
		if (!gone)
			complain("the box %s is still there: %s", id, e.message);
		json_decref(gone);
	}
	json_decref(box);
	return code;
}

int command_run(const struct globals *g, int argc, char **argv)
{
	struct run o = {.env = json_object(), .volumes = json_array()};
	struct api a;
	struct api_error e;
	int code =
		read_options(&o, argc, argv,
			     "run [--rm] [-d] [-i] [-t] [--name NAME] [--env NAME=value]... [--workdir DIR] "
			     "[--user USER] [--entrypoint PROGRAM] [--volume NAME:/PATH[:ro]]... [--network "
			     "none|default] [--timing] "
			     "IMAGE [--] [COMMAND] [ARG]...",
			     "+rn:e:w:u:itv:dh");
	if (code == 0 && api_init(&a, g->host, g->key, g->ca, &e) < 0)
		code = complain("%s", e.message);
	else if (code == 0) {
		hold_signals();
		code = run_in_new_box(&a, &o, argv[optind], argv + optind + 1);
		if (o.timing && o.exec > 0)
			fprintf(stderr, "boot %.2f s, exec %.3f s\n", o.boot, o.exec);
		api_finish(&a);
	}
	json_decref(o.env);
	json_decref(o.volumes);
	return code;
}

int command_exec(const struct globals *g, int argc, char **argv)
{
	struct run o = {.env = json_object()};
	struct api a;
	struct api_error e;
	int code = read_options(&o, argc, argv,
				"exec [-i] [-t] [--env NAME=value]... [--workdir DIR] [--user USER] "
				"[--timing] BOX [--] COMMAND "
				"[ARG]...",
				"+e:w:u:ith");
	if (code == 0 && api_init(&a, g->host, g->key, g->ca, &e) < 0)
		code = complain("%s", e.message);
	else if (code == 0) {
		hold_signals();
		code = exec_in(&a, &o, argv[optind], argv + optind + 1);
		if (o.timing && o.exec > 0)
			fprintf(stderr, "exec %.3f s\n", o.exec);
		api_finish(&a);
	}
	json_decref(o.env);
	return code;
}

/* attach and logs: the main command of a box. */
static int show_main(const struct globals *g, const char *box, struct run *o, bool wait)
{
	struct api a;
	struct api_error e;
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	_cleanup_free_ char *segment = api_escape(box);
	json_t *info = segment ? api_call(&a, "GET", NULL, &e, "/boxes/%s", segment) : NULL;
	const char *id = json_string_value(json_object_get(info, "main_execution_id"));
	bool running = json_is_null(json_object_get(info, "exit_code"));
	int code;
	if (!info)
		code = complain("%s", e.message);
	else if (!id)
		code = complain("no main command has run in %s", box);
	else if (!wait && running)
		code = complain("the main command of %s still runs: -f follows it", box);
	else {
		o->tty = json_is_true(json_object_get(info, "tty"));
		o->interactive &= running && (!o->tty || terminal_is());
		hold_signals();
		code = stay(&a, o, segment, id);
	}
	json_decref(info);
	api_finish(&a);
	return code;
}

int command_attach(const struct globals *g, int argc, char **argv)
{
	struct run o = {.interactive = true};
	if (argc != 2)
		return complain("usage: tenon attach BOX");
	return show_main(g, argv[1], &o, true);
}

int command_logs(const struct globals *g, int argc, char **argv)
{
	struct run o = {0};
	bool wait = argc == 3 && strcmp(argv[1], "-f") == 0;
	if (argc != 2 + wait)
		return complain("usage: tenon logs [-f] BOX");
	return show_main(g, argv[1 + wait], &o, wait);
}
