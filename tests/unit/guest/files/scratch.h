/* An empty folder for a test, and its end. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/files/walk.h"

static char scratch[64];

static int scratch_make(void **state)
{
	(void)state;
	snprintf(scratch, sizeof scratch, "/tmp/tenon-files-XXXXXX");
	return mkdtemp(scratch) ? chdir(scratch) : -1;
}

static int scratch_remove_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	(void)arg;
	bool is_dir = S_ISDIR(e->st->st_mode);
	return is_dir && when == WALK_BEFORE ? 0 : unlinkat(e->dir, e->name, is_dir ? AT_REMOVEDIR : 0);
}

static int scratch_remove(void **state)
{
	(void)state;
	static struct walk walk;
	walk = (struct walk){.visit = scratch_remove_entry, .depth_max = UINT_MAX};
	return walk_dir(&walk, open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) || rmdir(scratch);
}

static inline void scratch_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}
