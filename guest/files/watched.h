/* Which path each watch of inotify(7) stands for. */
#pragma once

#include <stddef.h>

#define WATCHED_MAX 8192

struct watched {
	struct watched_dir {
		int wd;
		char *path; /* below the top; "" is the top itself */
	} dirs[WATCHED_MAX];
	size_t n;
};

/* Also an old wd, whose path it then has. -ENOSPC, -ENOMEM. */
int watched_put(struct watched *w, int wd, const char *path);
const char *watched_path(const struct watched *w, int wd); /* or NULL */
void watched_drop(struct watched *w, int wd);
/* A directory was renamed: it and all below. -ENOMEM. */
int watched_rename(struct watched *w, const char *from, const char *to);
void watched_clear(struct watched *w);
