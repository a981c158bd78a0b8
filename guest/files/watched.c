#include "guest/files/watched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sorted by wd: the kernel gives out each higher than the last. The index of wd, or where it belongs. */
static size_t find(const struct watched *w, int wd)
{
	size_t low = 0, high = w->n;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (w->dirs[mid].wd < wd)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct watched_dir *lookup(const struct watched *w, int wd)
{
	size_t i = find(w, wd);
	return i < w->n && w->dirs[i].wd == wd ? (struct watched_dir *)&w->dirs[i] : NULL;
}

int watched_put(struct watched *w, int wd, const char *path)
{
	struct watched_dir *d = lookup(w, wd);
	if (!d && w->n == WATCHED_MAX)
		return -ENOSPC;
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	if (d) {
		free(d->path);
	} else {
		size_t i = find(w, wd);
		memmove(&w->dirs[i + 1], &w->dirs[i], (w->n - i) * sizeof *w->dirs);
		w->n++;
		d = &w->dirs[i];
		d->wd = wd;
	}
	d->path = copy;
	return 0;
}

const char *watched_path(const struct watched *w, int wd)
{
	const struct watched_dir *d = lookup(w, wd);
	return d ? d->path : NULL;
}

void watched_drop(struct watched *w, int wd)
{
	struct watched_dir *d = lookup(w, wd);
	if (!d)
		return;
	free(d->path);
	w->n--;
	memmove(d, d + 1, (size_t)(&w->dirs[w->n] - d) * sizeof *d);
}

int watched_rename(struct watched *w, const char *from, const char *to)
{
	size_t n = strlen(from);
	for (size_t i = 0; i < w->n; i++) {
		char *old = w->dirs[i].path, *path;
		if (strncmp(old, from, n) != 0 || (old[n] && old[n] != '/'))
			continue;
		if (asprintf(&path, "%s%s", to, old + n) < 0)
			return -ENOMEM;
		free(old);
		w->dirs[i].path = path;
	}
	return 0;
}

void watched_clear(struct watched *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->dirs[i].path);
	w->n = 0;
}
