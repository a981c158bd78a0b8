/* Layers of pulls that came to nothing, for the next try: cache/<key>/sha256/<hex>, where the key is of
 * reference and credentials (pull.c). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "internal.h"
#include "proto/cleanup.h"
#include "removal.h"

#define AGE_MAX_SECONDS (24 * 3600)
#define BYTES_MAX (UINT64_C(8) << 30)
#define TRIES_MAX 64

struct
try {
	char *path;
	uint64_t bytes;
	time_t last;
};

static void measure(struct try *t)
{
	_cleanup_free_ char *blobs = NULL;
	struct stat st;
	if (asprintf(&blobs, "%s/sha256", t->path) < 0 || stat(blobs, &st) < 0)
		return;
	t->last = st.st_mtime;
	_cleanup_closedir_ DIR *d = opendir(blobs);
	const struct dirent *entry;
	while (d && (entry = readdir(d)))
		if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			t->bytes += (uint64_t)st.st_size;
}

static bool is_in_use(struct images *is, const char *path)
{
	const struct job *j;
	LIST_FOREACH (j, &is->jobs, entry)
		if (j->pull && pull_uses(j->pull, path))
			return true;
	return false;
}

/* The newest first. */
static int by_age(const void *a, const void *b)
{
	const struct try *x = a, *y = b;
	return x->last < y->last ? 1 : x->last > y->last ? -1 : 0;
}

void cache_trim(struct images *is)
{
	_cleanup_free_ char *dir = NULL;
	struct try tries[TRIES_MAX];
	size_t n = 0;
	uint64_t sum = 0;
	if (asprintf(&dir, "%s/cache", is->dir) < 0)
		return;
	_cleanup_closedir_ DIR *d = opendir(dir);
	const struct dirent *entry;
	while (d && (entry = readdir(d))) {
		char *path;
		if (entry->d_name[0] == '.' || asprintf(&path, "%s/%s", dir, entry->d_name) < 0)
			continue;
		/* More than that there are not, unless somebody has put them there. */
		if (n == TRIES_MAX || is_in_use(is, path)) {
			if (n == TRIES_MAX)
				removal_later(is->config.loop, path);
			else
				free(path);
			continue;
		}
		tries[n] = (struct try){.path = path};
		measure(&tries[n++]);
	}
	qsort(tries, n, sizeof *tries, by_age);
	for (size_t i = 0; i < n; i++) {
		sum += tries[i].bytes;
		if (sum > BYTES_MAX || tries[i].last < time(NULL) - AGE_MAX_SECONDS)
			removal_later(is->config.loop, tries[i].path);
		else
			free(tries[i].path);
	}
}
