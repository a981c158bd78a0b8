/* A tree of files, depth first, in each directory's own order. By descriptors: what is renamed meanwhile
 * leads nowhere else, links are never followed, what vanishes is passed over. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "guest/files/where.h"

#define WALK_PATH_MAX (4 * PATH_MAX)
#define WALK_DEPTH_MAX 2048 /* one descriptor each; more than an archive can make */

enum walk_when {
	WALK_BEFORE, /* each entry */
	WALK_AFTER,  /* a directory again, once all in it was visited */
};

/* What a visitor returns, if not -errno. */
enum {
	WALK_ON,
	WALK_SKIP, /* what is in this directory */
	WALK_STOP,
	WALK_AGAIN, /* with st */
};

struct walk;
struct walk_entry {
	struct walk *walk;
	int dir;
	const char *name;
	const char *path;      /* below the top */
	const struct stat *st; /* NULL: see unseen_files */
};

typedef int walk_visit(void *arg, enum walk_when when, const struct walk_entry *e);

struct walk {
	walk_visit *visit;
	void *arg;
	unsigned depth_max; /* of entries that are visited; those of the top are 1 */
	bool one_mount;     /* -EXDEV at what is mounted inside */
	/* What a directory calls a file is visited without st, for a visitor that opens it and looks then. It
	 * may be something else since, or below a mount: WALK_AGAIN. */
	bool unseen_files;
	const char *stage; /* of a failure that concerns a file; else NULL */
	char path[WALK_PATH_MAX];
};

/* A directory to be walked, by its name in another; a link is none. -errno. */
int walk_open(const struct walk *w, int dir, const char *name);
/* Takes fd, an open directory: visits what is in it, not itself. 0, WALK_STOP or -errno. */
int walk_dir(struct walk *w, int fd);
/* For visitors: a step failed on the entry. Returns -errnum. */
int walk_error(const struct walk_entry *e, const char *stage, int errnum);
/* FILE_FAILED for the entry that the walk came to; r as it is if no file was at fault. */
int walk_fail(const struct walk *w, const struct where *top, int r, struct fault *f);
