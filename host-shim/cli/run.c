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
	bool remove, interactive, tty, timing;
	const char *name, *workdir, *user;
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
		{0},
	};
	bool whole_run = strchr(short_options, 'r');
	for (int c; (c = getopt_long(argc, argv, short_options, options, NULL)) != -1;) {
		if (!whole_run && (c == 'r' || c == 'n' || c == 'v' || c == 'N'))
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
		default:
			return complain("usage: tenon %s", usage);
		}
	}
	/* The target and, with or without "--" between them, the command. */
	if (optind < argc - 1 && strcmp(argv[optind + 1], "--") == 0) {
		argv[optind + 1] = argv[optind];
		optind++;
	}
	if (optind + 1 >= argc)
		return complain("usage: tenon %s", usage);
	if (o->tty && o->interactive && !terminal_is())
		return complain("-it needs a terminal, and stdin is none; -i alone takes any input");
	return 0;
}

/* Runs argv in the box and stays until it ends. */
static int exec_in(struct api *a, struct run *o, const char *box, char **argv)
{
	struct api_error e;
	_cleanup_free_ char *segment = api_escape(box), *path = NULL;
	json_t *body = json_pack("{s:s, s:[], s:O}", "command", argv[0], "args", "env", o->env);
	for (char **arg = argv + 1; body && *arg; arg++)
		if (json_array_append_new(json_object_get(body, "args"), json_string(*arg)) < 0) {
			json_decref(body);
			body = NULL;
		}
	if (!body || !segment)
		return complain("the command is not UTF-8 text");
	if (o->workdir)
		json_object_set_new(body, "working_dir", json_string(o->workdir));
	if (o->user)
		json_object_set_new(body, "user", json_string(o->user));
	if (!o->interactive)
		json_object_set_new(body, "stdin", json_string(""));
	unsigned rows, cols;
	if (o->tty) {
		json_object_set_new(body, "tty", json_true());
		/* The other terminal looks like ours: programs there draw for it. */
		const char *term = getenv("TERM");
		if (term && !json_object_get(o->env, "TERM"))
			json_object_set_new(o->env, "TERM", json_string(term));
	}
	if (o->tty && terminal_size(&rows, &cols)) {
		json_object_set_new(body, "rows", json_integer(rows));
		json_object_set_new(body, "cols", json_integer(cols));
	}
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	json_t *started = api_call(a, "POST", body, &e, "/boxes/%s/exec", segment);
	if (!started) {
		complain("%s", e.message);
		if (e.status != 422)
			return EXIT_TENON;
		return e.errnum == ENOENT ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
	}
	const char *id = json_string_value(json_object_get(started, "execution_id"));
	int code = -1;
	if (asprintf(&path, "/boxes/%s/executions/%s", segment, id ? id : "") > 0)
		code = follow(a, path, o->interactive, o->tty, &e);
	json_decref(started);
	o->exec = (double)(clock_ns(CLOCK_MONOTONIC) - began) / NSEC_PER_SEC;
	return code < 0 ? complain("%s", e.message) : code;
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

static int run_in_new_box(struct api *a, struct run *o, const char *image, char **argv)
{
	struct api_error e;
	json_t *body = json_pack("{s:s, s:O, s:O}", "image", image, "env", o->env, "volumes", o->volumes);
	if (!body)
		return complain("the image's name is not UTF-8 text");
	if (o->name)
		json_object_set_new(body, "name", json_string(o->name));
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
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	json_t *running = api_call(a, "POST", NULL, &e, "/boxes/%s/start", segment);
	o->boot = (double)(clock_ns(CLOCK_MONOTONIC) - began) / NSEC_PER_SEC;
	int code = running ? exec_in(a, o, id, argv) : complain("%s", e.message);
	json_decref(running);
	if (o->remove) {
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
	int code = read_options(&o, argc, argv,
				"run [--rm] [-i] [-t] [--name NAME] [--env NAME=value]... [--workdir DIR] "
				"[--user USER] [--volume NAME:/PATH[:ro]]... [--network none|default] "
				"[--timing] IMAGE [--] COMMAND "
				"[ARG]...",
				"+rn:e:w:u:itv:");
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
				"+e:w:u:it");
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
