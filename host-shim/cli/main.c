/* tenon: the command line, on the REST API. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct {
	const char *name;
	int (*run)(const struct globals *g, int argc, char **argv);
	const char *what;
} commands[] = {
	{"run", command_run, "make a box and run a command in it"},
	{"exec", command_exec, "run a command in a box"},
	{"attach", command_attach, "output and input of a box's main command"},
	{"logs", command_logs, "output of a box's main command, once it has ended; -f while it runs"},
	{"cp", command_cp, "copy files to a box, or from one"},
	{"snapshot", command_snapshot, "keep the state of a box's disk, or go back to it"},
	{"clone", command_clone, "make a box of another's disk"},
	{"export", command_export, "write a box to a file"},
	{"import", command_import, "make a box of such a file"},
	{"ps", command_ps, "list boxes"},
	{"rm", command_rm, "remove boxes"},
	{"pull", command_pull, "fetch an image from a registry"},
	{"load", command_load, "take an image from an archive, or from elsewhere on the daemon's host"},
	{"images", command_images, "list images"},
	{"rmi", command_rmi, "remove images"},
	{"volume", command_volume, "make, list and remove volumes"},
};

static void usage(FILE *to)
{
	fputs("usage: tenon [--host URL] [--key KEY] [--cacert FILE] COMMAND ...\n\n", to);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].what);
	fputs("\n  --host    http[s]://ADDRESS:PORT or unix:PATH; else $TENON_HOST, else "
	      "http://127.0.0.1:8100\n"
	      "  --key     else $TENON_KEY, $TENON_KEY_FILE, or this user's own tenond's\n"
	      "  --cacert  PEM file of who signed an https host's certificate; else $TENON_CA_FILE\n",
	      to);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"host", required_argument, NULL, 'H'},
		{"key", required_argument, NULL, 'K'},
		{"cacert", required_argument, NULL, 'C'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct globals g = {0};
	for (int c; (c = getopt_long(argc, argv, "+H:K:C:h", options, NULL)) != -1;) {
		if (c == 'H') {
			g.host = optarg;
		} else if (c == 'K') {
			g.key = optarg;
		} else if (c == 'C') {
			g.ca = optarg;
		} else {
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : EXIT_TENON;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_TENON;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (strcmp(argv[optind], commands[i].name) != 0)
			continue;
		int skipped = optind;
		optind = 0; /* getopt starts anew, on the command's own arguments */
		int code = commands[i].run(&g, argc - skipped, argv + skipped);
		curl_global_cleanup();
		return code;
	}
	return complain("there is no command %s", argv[optind]);
}
