#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/files/files.h"
#include "guest/files/info.h"
#include "guest/files/walk.h"
#include "guest/files/where.h"
#include "proto/cleanup.h"

int files_stat(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
	       struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	int r = where_open(&w, req->stat->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = where_resolve(&w, O_PATH | (req->stat->follow ? 0 : O_NOFOLLOW), f);
	if (fd < 0)
		return fd;
	struct info info;
	r = info_of(&info, fd, where_name(&w, &ch->scratch));
	if (r < 0)
		return where_fail(&w, NULL, "stat", -r, f);
	return info_answer(ch, &info);
}

int files_read_link(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		    struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	int r = where_open(&w, req->read_link->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = where_resolve(&w, O_PATH | O_NOFOLLOW, f);
	if (fd < 0)
		return fd;
	struct info info;
	r = info_of(&info, fd, "");
	if (r == 0 && !S_ISLNK(info.st.st_mode))
		r = -EINVAL;
	if (r < 0)
		return where_fail(&w, NULL, "readlink", -r, f);
	Tenon__LinkTarget target = TENON__LINK_TARGET__INIT;
	target.path = (ProtobufCBinaryData){info.target_len, (uint8_t *)info.target};
	Tenon__BulkResponse answer = TENON__BULK_RESPONSE__INIT;
	answer.result_case = TENON__BULK_RESPONSE__RESULT_TARGET;
	answer.target = &target;
	return channel_answer(ch, &answer);
}

/* ---- a folder's entries, packed as many to an event as fit ---- */

#define LIST_MAX 10000
#define BATCH_ENTRIES 256
#define BATCH_BYTES 61440    /* packed, with room for what surrounds it */
#define BATCH_STRINGS 131072 /* more than the names and targets of BATCH_BYTES with their padding */

struct list {
	struct channel *ch;
	uint32_t max;
	uint64_t listed;
	bool truncated;
	size_t n, packed;
	struct bump strings;
	Tenon__FileInfo infos[BATCH_ENTRIES];
	Tenon__FileInfo *files[BATCH_ENTRIES];
};

static uint8_t list_strings[BATCH_STRINGS];
static struct list list; /* a worker has one at a time, and no stack for it */

static int flush(struct list *l)
{
	if (l->n == 0)
		return 0;
	Tenon__FileList files = TENON__FILE_LIST__INIT;
	files.files = l->files;
	files.n_files = l->n;
	files.truncated = l->truncated;
	Tenon__BulkEvent event = TENON__BULK_EVENT__INIT;
	event.kind_case = TENON__BULK_EVENT__KIND_FILES;
	event.files = &files;
	l->n = l->packed = 0;
	int r = channel_give_event(l->ch, &event);
	bump_init(&l->strings, list_strings, sizeof list_strings);
	return r;
}

static int add(struct list *l, const struct info *info)
{
	Tenon__FileInfo packed;
	info_pack(&packed, info);
	size_t size = tenon__file_info__get_packed_size(&packed) + 8;
	if (l->n == BATCH_ENTRIES || l->packed + size > BATCH_BYTES) {
		int r = flush(l);
		if (r < 0)
			return r;
	}
	l->packed += size;
	Tenon__FileInfo *kept = &l->infos[l->n];
	*kept = packed;
	kept->name.data = (uint8_t *)bump_string(&l->strings, packed.name.data, packed.name.len);
	kept->link_target.data =
		(uint8_t *)bump_string(&l->strings, packed.link_target.data, packed.link_target.len);
	if (!kept->name.data || !kept->link_target.data)
		return -ENOMEM;
	l->files[l->n++] = kept;
	l->listed++;
	return 0;
}

static int list_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	struct list *l = arg;
	if (when == WALK_AFTER)
		return WALK_ON;
	if (l->listed == l->max) {
		l->truncated = true;
		return WALK_STOP;
	}
	struct info info = {.st = *e->st, .name = e->path};
	int r = info_read_target(&info, e->dir, e->name);
	if (r == -ENOENT)
		return WALK_ON; /* gone meanwhile */
	return r < 0 ? walk_error(e, "readlink", -r) : add(l, &info);
}

int files_list(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
	       struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	int r = where_open(&w, req->list->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	int fd = where_resolve(&w, O_RDONLY | O_DIRECTORY, f);
	if (fd < 0)
		return fd;
	list.ch = ch;
	list.max = req->list->max ? req->list->max : LIST_MAX;
	list.listed = list.n = list.packed = 0;
	list.truncated = false;
	bump_init(&list.strings, list_strings, sizeof list_strings);
	r = channel_answer_done(ch);
	if (r < 0) {
		close(fd);
		return r;
	}
	struct walk walk = {
		.visit = list_entry, .arg = &list, .depth_max = req->list->depth ? req->list->depth : 1};
	r = walk_dir(&walk, fd);
	if (r < 0)
		return walk_fail(&walk, &w, r, f);
	r = flush(&list);
	return r < 0 ? r : channel_end(ch, list.listed);
}
