#include "removal.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

void removal_now(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

struct removal {
	uv_work_t work;
	char *path;
};

static void remove_there(uv_work_t *w)
{
	removal_now(((struct removal *)w->data)->path);
}

static void on_removed(uv_work_t *w, int status)
{
	struct removal *r = w->data;
	(void)status;
	free(r->path);
	free(r);
}

/* What is not removed now, the next start of tenond removes. */
void removal_later(uv_loop_t *loop, char *path)
{
	struct removal *r = path ? malloc(sizeof *r) : NULL;
	if (!r) {
		free(path);
		return;
	}
	*r = (struct removal){.work.data = r, .path = path};
	if (uv_queue_work(loop, &r->work, remove_there, on_removed) < 0)
		on_removed(&r->work, 0);
}
