#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/ulid.h"
#include "internal.h"
#include "proto/cleanup.h"

void archives_remove_folder(const char *folder)
{
	_cleanup_closedir_ DIR *dir = folder[0] ? opendir(folder) : NULL;
	const struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		rmdir(folder);
}

int archives_make_folder(struct archives *as, char out[ARCHIVE_PATH_MAX], struct err *e)
{
	char id[ULID_LENGTH + 1];
	ulid_make(id);
	snprintf(out, ARCHIVE_PATH_MAX, "%s/%s", as->folder, id);
	if (mkdir(out, 0700) == 0)
		return 0;
	int r = err_sys(e, "archive", errno, "%s", out);
	out[0] = '\0';
	return r;
}

void archive_failure(struct failure *f, const struct err *e)
{
	*f = (struct failure){.kind = e->errnum == ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL};
	snprintf(f->message, sizeof f->message, "%s", e->msg);
}

static void release(struct archives *as)
{
	if (!as->closing || as->transfers)
		return;
	free(as->folder);
	free(as);
}

bool archives_begin(struct archives *as, struct failure *f)
{
	if (as->transfers < ARCHIVES_AT_ONCE) {
		as->transfers++;
		return true;
	}
	*f = (struct failure){.kind = FAIL_EXHAUSTED};
	snprintf(f->message, sizeof f->message, "%d archives are on their way already", ARCHIVES_AT_ONCE);
	return false;
}

void archives_end(struct archives *as)
{
	as->transfers--;
	release(as);
}

static void sweep(const char *folder)
{
	_cleanup_closedir_ DIR *dir = opendir(folder);
	const struct dirent *entry;
	char path[ARCHIVE_PATH_MAX];
	while (dir && (entry = readdir(dir)))
		if (strlen(entry->d_name) == ULID_LENGTH &&
		    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path)
			archives_remove_folder(path);
}

int archives_create(struct archives **out, const struct archives_config *c, struct err *e)
{
	struct archives *as = calloc(1, sizeof *as);
	if (!as || asprintf(&as->folder, "%s/archives", c->state_dir) < 0) {
		free(as);
		return err_sys(e, "archives", ENOMEM, "archives");
	}
	as->config = *c;
	as->config.state_dir = NULL; /* needed now only */
	if (mkdir(as->folder, 0700) < 0 && errno != EEXIST) {
		int r = err_sys(e, "archives", errno, "%s", as->folder);
		free(as->folder);
		free(as);
		return r;
	}
	sweep(as->folder);
	*out = as;
	return 0;
}

void archives_destroy(struct archives *as)
{
	if (!as)
		return;
	as->closing = true;
	release(as);
}
