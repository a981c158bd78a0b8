/* Removing boxes: the row goes first, so that what a crash leaves behind is a directory without a row, which
 * the next start sweeps away. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "box.h"
#include "lower.h"
#include "proto/cleanup.h"

#define REMOVE_DEADLINE_MS 120000

void remove_run_dir(const char *path)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	const struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	rmdir(path);
}

static void destroy_box(struct box *b)
{
	const struct boxes *bs = b->boxes;
	bool had_image = lower_is_imported(b->row.settings.image_digest);
	box_destroy(b);
	if (had_image)
		lowers_sweep(bs);
}

static void on_removed(void *arg, int status, const char *output)
{
	struct box *b = arg;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fprintf(stderr, "tenond: box %s: its directory is not removed: %s\n", b->row.id, output);
	box_tell(b, WISH_GONE, NULL);
	destroy_box(b);
}

/* Logs and disks may be large: a process of its own unlinks them, not the loop. */
static void remove_dirs(struct box *b)
{
	const char *const argv[] = {"rm", "-rf", "--", b->state_dir, NULL};
	struct process_config p = {.loop = b->boxes->config.loop,
				   .argv = argv,
				   .capture = true,
				   .inherit = -1,
				   .deadline_ms = REMOVE_DEADLINE_MS,
				   .arg = b,
				   .exited = on_removed};
	struct err e = {0};
	remove_run_dir(b->run_dir);
	if (process_spawn(&b->remover, &p, &e) < 0) {
		fprintf(stderr, "tenond: box %s: its directory is not removed: %s\n", b->row.id, e.msg);
		box_tell(b, WISH_GONE, NULL);
		destroy_box(b);
	}
}

static int delete_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct box *b = arg;
	return box_row_delete(db, b->row.id, e);
}

static void on_deleted(void *arg, int status, const struct err *e)
{
	struct box *b = arg;
	struct boxes *bs = b->boxes;
	if (!bs->closing && status < 0) {
		struct failure f;
		box_store_failure(&f, status, e);
		b->doomed = false;
		box_tell(b, WISH_GONE, &f);
	} else if (!bs->closing) {
		b->listed = false;
		box_disk_drop(b);
		executions_forget_box(bs->config.executions, b->row.id);
		remove_dirs(b);
	}
	boxes_unref(bs);
}

void box_remove(struct box *b)
{
	b->removal_waits = box_disk_is_busy(b);
	if (b->removal_waits)
		return;
	boxes_ref(b->boxes);
	store_submit(b->boxes->config.store, delete_row, on_deleted, b);
}

/* ---- what a crash left ------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static bool has_row(const struct boxes *bs, const char *id)
{
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry)
		if (strcmp(b->row.id, id) == 0)
			return true;
	return false;
}

static void sweep(const struct boxes *bs, const char *parent)
{
	_cleanup_closedir_ DIR *dir = opendir(parent);
	const struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *path = NULL;
		/* Only what has the form of an id: a directory that somebody put here is not ours to remove.
		 */
		if (strspn(entry->d_name, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != ULID_LENGTH ||
		    entry->d_name[ULID_LENGTH] || has_row(bs, entry->d_name) ||
		    asprintf(&path, "%s/%s", parent, entry->d_name) < 0)
			continue;
		nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	}
}

void boxes_sweep(struct boxes *bs)
{
	_cleanup_free_ char *states = NULL;
	if (asprintf(&states, "%s/boxes", bs->config.state_dir) < 0)
		return;
	sweep(bs, states);
	sweep(bs, bs->config.runtime_dir);
}
