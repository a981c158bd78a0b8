/* tenon cp: docker cp's form and rules. tar(1) packs and unpacks here, the agent in the box. What comes from
 * a box is unpacked in a folder of its own first: it may name any file. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "commands.h"
#include "proto/cleanup.h"
#include "transfer.h"

static char *files_path(const char *box, const char *what, const char *path)
{
	_cleanup_free_ char *segment = api_escape(box), *query = api_escape(path);
	char *where;
	return segment && query && asprintf(&where, "/boxes/%s/files%s?path=%s", segment, what, query) > 0
		       ? where
		       : NULL;
}

static CURL *start(const struct api *a, const char *box, const char *what, const char *path,
		   struct transfer *t)
{
	_cleanup_free_ char *where = files_path(box, what, path);
	t->curl = where ? api_handle(a, where) : NULL;
	if (!t->curl) {
		complain("no memory");
		return NULL;
	}
	transfer_receive(t);
	return t->curl;
}

/* What is there: 'd' a folder, 'f' anything else, 0 nothing; -1 after a complaint. */
static int type_in_box(const struct api *a, const char *box, const char *path)
{
	struct transfer t = {.fd = -1};
	struct curl_header *h;
	long status = 0;
	if (!start(a, box, "/content", path, &t))
		return -1;
	curl_easy_setopt(t.curl, CURLOPT_NOBODY, 1L);
	CURLcode code = curl_easy_perform(t.curl);
	curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &status);
	int type = -1;
	if (code == CURLE_OK && status == 200)
		type = curl_easy_header(t.curl, "X-File-Type", 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
				       strcmp(h->value, "directory") == 0
			       ? 'd'
			       : 'f';
	else if (code == CURLE_OK && status == 404)
		type = 0;
	else
		complain("%s in %s: %s", path, box,
			 code == CURLE_OK ? "the daemon refuses to look" : curl_easy_strerror(code));
	curl_easy_cleanup(t.curl);
	return type;
}

static bool names_contents(const char *path)
{
	size_t n = strlen(path);
	return (n >= 2 && strcmp(path + n - 2, "/.") == 0) || strcmp(path, ".") == 0 ||
	       strcmp(path, "/") == 0;
}

/* ---- in ---- */

static int send_archive(const struct api *a, const char *box, const char *to, struct transfer *t)
{
	if (!start(a, box, "", to, t))
		return EXIT_TENON;
	transfer_send(t);
	int code = transfer_perform(t);
	curl_easy_cleanup(t->curl);
	return code;
}

static int copy_in(const struct api *a, const char *from, const char *box, const char *to)
{
	struct transfer t = {.fd = STDIN_FILENO};
	struct stat st;
	if (strcmp(from, "-") == 0)
		return send_archive(a, box, to, &t);
	if (lstat(from, &st) < 0)
		return complain("%s: %s", from, strerror(errno));
	int target = S_ISDIR(st.st_mode) ? type_in_box(a, box, to) : 0;
	if (target < 0)
		return EXIT_TENON;
	if (target == 'f')
		return complain("%s in %s is no folder, and %s is one", to, box, from);
	/* A folder becomes a folder of the target if that is there, else the target itself. */
	bool contents = S_ISDIR(st.st_mode) && (target != 'd' || names_contents(from));
	_cleanup_free_ char *first = strdup(from), *second = strdup(from);
	const char *folder = contents ? from : dirname(first), *name = contents ? "." : basename(second);
	const char *const argv[] = {"tar", "--format=pax", "-C", folder, "-cf", "-", "--", name, NULL};
	t.packer = child_pipe(argv, 0, &t.fd);
	if (t.packer < 0)
		return EXIT_TENON;
	pid_t packer = t.packer;
	int code = send_archive(a, box, to, &t);
	close_fd(&t.fd); /* tar ends of it, if it has not */
	if (t.packer)
		child_succeeded(packer);
	return code;
}

/* ---- out ---- */

static int receive_archive(const struct api *a, const char *box, const char *from, struct transfer *t)
{
	if (!start(a, box, "", from, t))
		return EXIT_TENON;
	int code = transfer_perform(t);
	curl_easy_cleanup(t->curl);
	return code;
}

static int unpack_into(const struct api *a, const char *box, const char *from, const char *folder)
{
	const char *const argv[] = {"tar", "--no-same-owner", "-C", folder, "-xf", "-", NULL};
	struct transfer t = {.fd = -1};
	pid_t tar = child_pipe(argv, 1, &t.fd);
	if (tar < 0)
		return EXIT_TENON;
	int code = receive_archive(a, box, from, &t);
	close_fd(&t.fd);
	bool unpacked = child_succeeded(tar);
	return code || unpacked ? code : complain("the archive could not be unpacked");
}

/* Moves what was unpacked to where it belongs. */
static int place(const char *unpacked, const char *final)
{
	struct stat st;
	if (lstat(unpacked, &st) < 0)
		return complain("the box sent something else than was asked for");
	/* Without it cp writes through a link that an earlier copy from the box has left there. */
	const char *const argv[] = {"cp", "-aT", "--remove-destination", "--", unpacked, final, NULL};
	if (S_ISDIR(st.st_mode) && access(final, F_OK) == 0)
		return child_run(argv) ? 0 : complain("%s could not be copied", final);
	return rename(unpacked, final) == 0 ? 0 : complain("%s: %s", final, strerror(errno));
}

static int fetch(const struct api *a, const char *box, const char *from, const char *name, const char *final)
{
	_cleanup_free_ char *copy = strdup(final);
	char folder[PATH_MAX], unpacked[PATH_MAX + NAME_MAX + 2];
	snprintf(folder, sizeof folder, "%s/.tenon-cp-XXXXXX", dirname(copy));
	if (!mkdtemp(folder))
		return complain("%s: %s", folder, strerror(errno));
	/* Contents are a folder of their own, with the mode of that in the box. */
	snprintf(unpacked, sizeof unpacked, "%s/%s", folder, name ? name : "contents");
	bool ready = name || mkdir(unpacked, 0755) == 0;
	int code = ready ? unpack_into(a, box, from, name ? folder : unpacked)
			 : complain("%s: %s", unpacked, strerror(errno));
	if (code == 0)
		code = place(unpacked, final);
	const char *const argv[] = {"rm", "-rf", "--", folder, NULL};
	child_run(argv);
	return code;
}

static int copy_out(const struct api *a, const char *box, const char *from, const char *to)
{
	struct transfer t = {.fd = STDOUT_FILENO};
	struct stat st;
	if (strcmp(to, "-") == 0)
		return receive_archive(a, box, from, &t);
	int source = type_in_box(a, box, from);
	if (source <= 0)
		return source < 0 ? EXIT_TENON : complain("%s: there is no such file in %s", from, box);
	bool exists = stat(to, &st) == 0, into = exists && S_ISDIR(st.st_mode);
	if (source == 'd' && exists && !into)
		return complain("%s is no folder, and %s in %s is one", to, from, box);
	if (source != 'd' && !exists && to[0] && to[strlen(to) - 1] == '/')
		return complain("%s: there is no such folder", to);
	_cleanup_free_ char *contents = NULL, *final = NULL, *copy = strdup(from);
	const char *name = basename(copy);
	/* A folder becomes the target if that is not there. */
	bool whole = source == 'd' && (!into || names_contents(from));
	if (asprintf(&contents, "%s/.", from) < 0 ||
	    asprintf(&final, into && !whole ? "%s/%s" : "%s", to, name) < 0)
		return complain("no memory");
	return fetch(a, box, whole && !names_contents(from) ? contents : from, whole ? NULL : name, final);
}

/* ---- the command ---- */

/* Cuts "BOX:PATH"; NULL if text is a path of this host. Relative paths begin at the box's root. */
static char *split(char *text, char **path)
{
	char *colon = strchr(text, ':');
	if (!colon || colon == text || memchr(text, '/', (size_t)(colon - text)) || text[0] == '.')
		return NULL;
	*colon = '\0';
	if (asprintf(path, "%s%s", colon[1] == '/' ? "" : "/", colon + 1) < 0)
		*path = NULL;
	return text;
}

int command_cp(const struct globals *g, int argc, char **argv)
{
	struct api a;
	struct api_error e;
	_cleanup_free_ char *from = NULL, *to = NULL;
	char *source = argc == 3 ? split(argv[1], &from) : NULL;
	char *target = argc == 3 ? split(argv[2], &to) : NULL;
	if (argc != 3 || !source == !target)
		return complain("usage: tenon cp SOURCE|- BOX:PATH, or tenon cp BOX:PATH TARGET|-");
	if (api_init(&a, g->host, g->key, g->ca, &e) < 0)
		return complain("%s", e.message);
	signal(SIGPIPE, SIG_IGN);
	int code = EXIT_TENON;
	if (source && from)
		code = copy_out(&a, source, from, argv[2]);
	else if (target && to)
		code = copy_in(&a, argv[1], target, to);
	api_finish(&a);
	return code;
}
