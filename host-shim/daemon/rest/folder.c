#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"

/* ---- listing ---- */

#define LIST_DEFAULT 1000
#define LIST_MAX 10000
#define DEPTH_MAX 64

static json_t *file_json(const Tenon__FileInfo *file)
{
	char mode[8];
	snprintf(mode, sizeof mode, "%04o", file->mode & 07777);
	json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "type", rest_file_type(file->mode), "mode",
			      mode, "uid", (json_int_t)file->uid, "gid", (json_int_t)file->gid, "size",
			      (json_int_t)file->size, "modified_at", rest_time(file->mtime_ns / 1000000));
	rest_set_text(o, "name", file->name.data, file->name.len);
	if (S_ISLNK(file->mode))
		rest_set_text(o, "target", file->link_target.data, file->link_target.len);
	return o;
}

static void add_files(json_t *object, const Tenon__BulkEvent *event)
{
	json_t *entries = json_object_get(object, "entries");
	if (event->kind_case != TENON__BULK_EVENT__KIND_FILES)
		return;
	/* The agent was told how many; it may not make us hold more. */
	for (size_t i = 0; i < event->files->n_files && json_array_size(entries) < LIST_MAX; i++)
		json_array_append_new(entries, file_json(event->files->files[i]));
	if (event->files->truncated)
		json_object_set_new(object, "truncated", json_true());
}

void rest_list_folder(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	uint64_t depth, limit;
	if (!b || !rest_where(r, &at) || !rest_query_int(r, "depth", 1, DEPTH_MAX, 1, &depth) ||
	    !rest_query_int(r, "limit", 1, LIST_MAX, LIST_DEFAULT, &limit))
		return;
	Tenon__ListDir list = TENON__LIST_DIR__INIT;
	list.at = &at;
	list.depth = (uint32_t)depth;
	list.max = (uint32_t)limit;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_LIST;
	req.list = &list;
	rest_bulk_gather(r, b, &req, true, add_files, json_pack("{s:[], s:b}", "entries", "truncated", 0));
}

/* ---- watching ---- */

struct watch {
	struct http_request *r; /* until it is replied to */
	struct box_bulk *op;
	struct sse *sse; /* NULL until it is first asked for events */
	uint64_t count;
	json_t *held; /* an event for which there was no room */
};

static json_t *change_json(const Tenon__FileChange *c)
{
	static const char *const kinds[] = {
		[TENON__CHANGE_KIND__CHANGE_CREATED] = "created",
		[TENON__CHANGE_KIND__CHANGE_WRITTEN] = "written",
		[TENON__CHANGE_KIND__CHANGE_REMOVED] = "removed",
		[TENON__CHANGE_KIND__CHANGE_RENAMED] = "renamed",
		[TENON__CHANGE_KIND__CHANGE_ATTRIBUTES] = "attributes",
		[TENON__CHANGE_KIND__CHANGE_OVERFLOW] = "overflow",
	};
	unsigned kind = (unsigned)c->kind;
	if (kind >= sizeof kinds / sizeof *kinds)
		return NULL; /* newer than we are */
	json_t *o = json_pack("{s:s, s:b}", "kind", kinds[kind], "directory", c->is_dir);
	rest_set_text(o, "name", c->name.data, c->name.len);
	if (c->to.len)
		rest_set_text(o, "to", c->to.data, c->to.len);
	return o;
}

static void on_watch_closed(void *arg)
{
	struct watch *w = arg;
	box_bulk_close(w->op);
	json_decref(w->held);
	free(w);
}

/* True: it is out, or will never be. */
static bool put_change(struct watch *w, struct sse *s, json_t *change)
{
	if (sse_put_json(s, "change", w->count + 1, change) < 0)
		return false;
	w->count++;
	return true;
}

static bool put_failure(struct sse *s, uint64_t position, const struct failure *f)
{
	json_t *error = json_pack("{s:o}", "message", rest_text(f->message, strlen(f->message)));
	sse_put_json(s, "error", position, error);
	json_decref(error);
	return false;
}

static bool on_fill(void *arg, struct sse *s)
{
	struct watch *w = arg;
	w->sse = s;
	while (sse_room(s) >= SSE_ROOM_MIN) {
		struct box_bulk_item item;
		if (w->held && !put_change(w, s, w->held))
			return true;
		json_decref(w->held);
		w->held = NULL;
		box_bulk_next(w->op, 0, &item);
		if (item.kind == BULK_WAIT)
			return true;
		if (item.kind == BULK_FAILED)
			return put_failure(s, w->count, &item.failure);
		if (item.kind == BULK_EVENT && item.bulk.event->kind_case == TENON__BULK_EVENT__KIND_CHANGE)
			w->held = change_json(item.bulk.event->change);
		else if (item.kind == BULK_END)
			return false;
	}
	return true;
}

static void on_watch_wake(void *arg)
{
	static const struct sse_source source = {.fill = on_fill, .closed = on_watch_closed};
	struct watch *w = arg;
	struct http_request *r = w->r;
	struct box_bulk_item item;
	if (!r) {
		if (w->sse)
			sse_wake(w->sse);
		return;
	}
	box_bulk_next(w->op, 0, &item);
	if (item.kind == BULK_WAIT)
		return;
	w->r = NULL;
	if (item.kind == BULK_ANSWER) {
		http_reply_sse(r, &source, w);
		return;
	}
	if (item.kind == BULK_FAILED)
		rest_reply_failure(r, &item.failure);
	on_watch_closed(w);
}

static void on_watch_gone(void *arg)
{
	struct watch *w = arg;
	http_reply_empty(w->r, 204);
	on_watch_closed(w);
}

void rest_watch_folder(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	bool recursive;
	if (!b || !rest_where(r, &at) || http_query_flag(r, "recursive", &recursive) < 0)
		return;
	struct watch *w = calloc(1, sizeof *w);
	if (!w) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	Tenon__Watch watch = TENON__WATCH__INIT;
	watch.at = &at;
	watch.recursive = recursive;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_WATCH;
	req.watch = &watch;
	w->r = r;
	w->op = box_bulk(b, &req, true, on_watch_wake, w);
	http_on_gone(r, on_watch_gone, w);
	on_watch_wake(w);
}
