/* boxes.h without virtual machines: a box is a row in memory, its commands are processes of this host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fakes.h"
#include "host-shim/daemon/archives/archives.h"
#include "host-shim/daemon/boxes/boxes.h"
#include "host-shim/daemon/boxes/snapshots.h"

struct box {
	struct box *next;
	struct boxes *boxes;
	char id[33];
	char *prefix, *name, *image, *labels, *cwd;
	struct box_info info;
};

struct boxes {
	struct boxes_config config;
	struct box *first;
	unsigned made;
};

int boxes_create(struct boxes **out, const struct boxes_config *c, struct err *e)
{
	(void)e;
	*out = calloc(1, sizeof **out);
	(*out)->config = *c;
	return 0;
}

static void box_free(struct box *b)
{
	free(b->prefix);
	free(b->name);
	free(b->image);
	free(b->labels);
	free(b->cwd);
	free(b);
}

void boxes_destroy(struct boxes *bs)
{
	while (bs->first) {
		struct box *b = bs->first;
		bs->first = b->next;
		box_free(b);
	}
	free(bs);
}

static void refuse(struct failure *f, enum failure_kind kind, const char *message)
{
	*f = (struct failure){.kind = kind};
	snprintf(f->message, sizeof f->message, "%s", message);
}

bool boxes_check(const struct boxes *bs, const struct box_spec *spec, struct failure *f)
{
	(void)bs;
	(void)spec;
	(void)f;
	return true;
}

unsigned boxes_count_image(const struct boxes *bs, const char *prefix, const char *digest)
{
	(void)bs;
	(void)prefix;
	(void)digest;
	return 0;
}

struct box *boxes_find_id(struct boxes *bs, const char *id)
{
	for (struct box *b = bs->first; b; b = b->next)
		if (strcmp(b->id, id) == 0)
			return b;
	return NULL;
}

struct box *boxes_find(struct boxes *bs, const char *prefix, const char *id)
{
	for (struct box *b = bs->first; b; b = b->next)
		if (strcmp(b->prefix, prefix) != 0)
			continue;
		else if (strcmp(b->id, id) == 0 || (b->name && strcmp(b->name, id) == 0))
			return b;
	return NULL;
}

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static bool fake_outbound; /* of the latest box */

void boxes_add(struct boxes *bs, const struct box_spec *spec, box_done_fn done, void *arg)
{
	struct failure f;
	if (spec->name && boxes_find(bs, spec->prefix, spec->name)) {
		refuse(&f, FAIL_EXISTS, "a box of that name exists");
		done(arg, NULL, &f);
		return;
	}
	if (strncmp(spec->image, "tenon/base", 10) != 0 && strcmp(spec->image, "alpine:latest") != 0) {
		refuse(&f, FAIL_UNSUPPORTED, "image: only tenon/base is here");
		done(arg, NULL, &f);
		return;
	}
	struct box *b = calloc(1, sizeof *b);
	snprintf(b->id, sizeof b->id, "fakebox%u", ++bs->made);
	fake_outbound = spec->settings->outbound;
	b->prefix = copy(spec->prefix);
	b->name = copy(spec->name);
	b->image = copy(spec->image);
	b->labels = copy(spec->labels_json);
	b->cwd = copy(spec->working_dir);
	static const struct box_settings settings = {.outbound = true};
	b->info = (struct box_info){
		.id = b->id,
		.settings = &settings,
		.prefix = b->prefix,
		.name = b->name,
		.image = b->image,
		.labels_json = b->labels,
		.working_dir = b->cwd,
		.status = BOX_CONFIGURED,
		.cpus = spec->cpus,
		.memory_mib = spec->memory_mib,
		.disk_size_gb = spec->disk_size_gb,
		.auto_stop = spec->auto_stop,
		.auto_delete = spec->auto_delete,
		.auto_resume = spec->auto_resume,
		.auto_remove = spec->auto_remove,
		.created_ms = 1700000000123,
		.updated_ms = 1700000000123,
	};
	b->boxes = bs;
	struct box **at = &bs->first;
	while (*at)
		at = &(*at)->next;
	*at = b;
	done(arg, b, NULL);
}

void boxes_each(struct boxes *bs, const char *prefix, void (*fn)(void *arg, struct box *b), void *arg)
{
	for (struct box *b = bs->first; b; b = b->next)
		if (strcmp(b->prefix, prefix) == 0)
			fn(arg, b);
}

void box_main(struct box *b, execution_started_fn done, void *arg)
{
	struct failure f;
	(void)b;
	refuse(&f, FAIL_CONFLICT, "no main command");
	done(arg, NULL, &f);
}

const char *boxes_volume_user(const struct boxes *bs, const char *volume)
{
	(void)bs;
	(void)volume;
	return NULL;
}

static void count(void *arg, struct box *b)
{
	(void)b;
	++*(unsigned *)arg;
}

unsigned boxes_count(const struct boxes *bs, const char *prefix)
{
	unsigned n = 0;
	boxes_each((struct boxes *)bs, prefix, count, &n);
	return n;
}

void box_get_info(struct box *b, struct box_info *out)
{
	*out = b->info;
}

void box_start(struct box *b, box_done_fn done, void *arg)
{
	b->info.status = BOX_RUNNING;
	b->info.pid = 4242;
	done(arg, b, NULL);
}

void box_stop(struct box *b, unsigned grace_ms, box_done_fn done, void *arg)
{
	(void)grace_ms;
	b->info.status = BOX_STOPPED;
	b->info.pid = 0;
	done(arg, b, NULL);
}

void box_delete(struct box *b, bool force, box_done_fn done, void *arg)
{
	if (b->info.status == BOX_RUNNING && !force) {
		struct failure f;
		refuse(&f, FAIL_CONFLICT, "the box is running; force=true ends it first");
		done(arg, NULL, &f);
		return;
	}
	executions_forget_box(b->boxes->config.executions, b->id);
	struct box **at = &b->boxes->first;
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	box_free(b);
	done(arg, NULL, NULL);
}

void box_exec(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	b->info.status = BOX_RUNNING;
	fake_execution_start(b->boxes->config.executions, b->id, spec, done, arg);
}

/* ---- snapshots: "kept" is always there, and nothing is done ---- */

static const struct snapshot_info kept = {.id = "fakesnapshot",
					  .box_id = "fakebox1",
					  .name = "kept",
					  .created_ms = 1700000000123,
					  .disk_bytes = 1 << 30};

void box_snapshot(struct box *b, const char *name, snapshot_done_fn done, void *arg)
{
	struct failure f;
	(void)b;
	refuse(&f, FAIL_EXISTS, "a snapshot of that name exists");
	done(arg, strcmp(name, kept.name) ? &kept : NULL, strcmp(name, kept.name) ? NULL : &f);
}

bool box_find_snapshot(struct box *b, const char *name, struct snapshot_info *out)
{
	(void)b;
	*out = kept;
	return strcmp(name, kept.name) == 0;
}

void box_each_snapshot(struct box *b, void (*fn)(void *arg, const struct snapshot_info *s), void *arg)
{
	(void)b;
	fn(arg, &kept);
}

void box_restore(struct box *b, const char *name, snapshot_over_fn done, void *arg)
{
	struct failure f;
	(void)name;
	refuse(&f, FAIL_CONFLICT, "the box is running");
	done(arg, b->info.status == BOX_RUNNING ? &f : NULL);
}

void box_delete_snapshot(struct box *b, const char *name, snapshot_over_fn done, void *arg)
{
	(void)b;
	(void)name;
	done(arg, NULL);
}

void box_clone(struct box *b, const char *name, box_done_fn done, void *arg)
{
	(void)name;
	done(arg, b, NULL);
}

/* ---- archives: eight bytes out, and none in ---- */

struct archive_out {
	size_t at;
};
struct archive_in {
	size_t taken;
};

struct archive_out *archive_out(struct archives *as, struct box *b, void (*wake)(void *arg), void *arg)
{
	(void)as;
	(void)b;
	(void)wake;
	(void)arg;
	return calloc(1, sizeof(struct archive_out));
}

enum archive_state archive_out_read(struct archive_out *o, void *buf, size_t max, size_t *len,
				    struct failure *f)
{
	(void)f;
	*len = 8 - o->at < max ? 8 - o->at : max;
	if (o->at == 8)
		return ARCHIVE_END;
	if (*len)
		memcpy(buf, "archived" + o->at, *len);
	o->at += *len;
	return ARCHIVE_DATA;
}

void archive_out_close(struct archive_out *o)
{
	free(o);
}

struct archive_in *archive_in(struct archives *as, const char *prefix, const char *name,
			      bool (*may_add)(void *arg, const char *prefix, struct failure *f),
			      void (*wake)(void *arg), void *arg)
{
	(void)as;
	(void)prefix;
	(void)name;
	(void)may_add;
	(void)wake;
	(void)arg;
	return calloc(1, sizeof(struct archive_in));
}

size_t archive_in_write(struct archive_in *i, const void *bytes, size_t n)
{
	(void)bytes;
	i->taken += n;
	return n;
}

void archive_in_write_end(struct archive_in *i)
{
	(void)i;
}

enum archive_state archive_in_result(struct archive_in *i, struct box **box, struct failure *f)
{
	(void)i;
	*box = NULL;
	refuse(f, FAIL_INVALID, "this is no archive of a box");
	return ARCHIVE_FAILED;
}

void archive_in_close(struct archive_in *i)
{
	free(i);
}

/* ---- bulk: one file, "/file", in memory; each turn of the loop moves FAKE_TURN bytes ---- */

#define FAKE_TURN 20000
static uint8_t *fake_file;
static size_t fake_size;
static unsigned fake_given_up;

struct box_bulk {
	uv_idle_t turn;
	Tenon__BulkRequest__OpCase op;
	struct failure failure;
	void (*wake)(void *arg);
	void *arg;
	bool answered, ended, end_sent, done, wants_room;
	size_t at, end, room;
	Tenon__BulkResponse answer;
	Tenon__FileInfo info;
	Tenon__BulkEvent event;
	Tenon__FileList list;
	Tenon__FileInfo *infos[1];
	Tenon__Done nothing;
	uint8_t piece[FAKE_TURN];
};

static void on_turn(uv_idle_t *h)
{
	struct box_bulk *op = h->data;
	if (op->op == TENON__BULK_REQUEST__OP_WRITE && op->answered && !op->end_sent && !op->wants_room)
		return;
	op->wants_room = false;
	op->room = FAKE_TURN;
	op->wake(op->arg);
}

struct box_bulk *box_bulk(struct box *b, const Tenon__BulkRequest *req, bool start, void (*wake)(void *arg),
			  void *arg)
{
	struct box_bulk *op = calloc(1, sizeof *op);
	const Tenon__Where *at = NULL;
	(void)start;
	op->op = req->op_case;
	op->wake = wake;
	op->arg = arg;
	uv_idle_init(b->boxes->config.executions->loop, &op->turn);
	op->turn.data = op;
	uv_idle_start(&op->turn, on_turn);
	tenon__bulk_response__init(&op->answer);
	tenon__file_info__init(&op->info);
	tenon__done__init(&op->nothing);
	op->info.mode = 0100640;
	op->info.size = fake_size;
	op->info.mtime_ns = 1700000000000000000;
	op->answer.result_case = TENON__BULK_RESPONSE__RESULT_DONE;
	op->answer.done = &op->nothing;
	switch (op->op) {
	case TENON__BULK_REQUEST__OP_READ:
		at = req->read->at;
		op->end = fake_size;
		op->at = req->read->offset < fake_size ? req->read->offset : fake_size;
		if (req->read->length && req->read->length < fake_size - op->at)
			op->end = op->at + req->read->length;
		op->answer.result_case = TENON__BULK_RESPONSE__RESULT_FILE;
		op->answer.file = &op->info;
		break;
	case TENON__BULK_REQUEST__OP_STAT:
		at = req->stat->at;
		op->answer.result_case = TENON__BULK_RESPONSE__RESULT_FILE;
		op->answer.file = &op->info;
		break;
	case TENON__BULK_REQUEST__OP_WRITE:
		at = req->write->at;
		break;
	case TENON__BULK_REQUEST__OP_LIST:
		at = req->list->at;
		tenon__bulk_event__init(&op->event);
		tenon__file_list__init(&op->list);
		op->info.name = (ProtobufCBinaryData){3, (uint8_t *)"a\xff"
								    "b"};
		op->infos[0] = &op->info;
		op->list.files = op->infos;
		op->list.n_files = 1;
		op->event.kind_case = TENON__BULK_EVENT__KIND_FILES;
		op->event.files = &op->list;
		break;
	default:
		break;
	}
	if (at && at->path.len >= 5 && memcmp(at->path.data, "/full", 5) == 0) {
		op->failure = (struct failure){.kind = FAIL_NO_SPACE, .errnum = 28, .path = "/full"};
		snprintf(op->failure.message, sizeof op->failure.message, "/full: no space");
	}
	if (at && at->path.len >= 5 && memcmp(at->path.data, "/none", 5) == 0)
		op->failure = (struct failure){.kind = FAIL_NOT_FOUND, .errnum = 2, .path = "/none"};
	return op;
}

static void on_op_closed(uv_handle_t *h)
{
	free(h->data);
}

void box_bulk_close(struct box_bulk *op)
{
	if (!op)
		return;
	fake_given_up += !op->done;
	uv_close((uv_handle_t *)&op->turn, on_op_closed);
}

void box_bulk_next(struct box_bulk *op, size_t max, struct box_bulk_item *out)
{
	bool writes = op->op == TENON__BULK_REQUEST__OP_WRITE;
	out->kind = BULK_WAIT;
	/* "/full" of a write is told when a piece has come. */
	if (op->failure.message[0] || op->failure.path[0]) {
		if (writes && op->failure.kind == FAIL_NO_SPACE && (!op->answered || fake_size < 50000))
			goto go_on;
		op->done = true;
		out->kind = BULK_FAILED;
		out->failure = op->failure;
		return;
	}
go_on:
	if (!op->answered) {
		if (!op->room)
			return;
		op->answered = true;
		if (writes)
			fake_size = 0;
		out->kind = BULK_ANSWER;
		out->bulk.answer = &op->answer;
		return;
	}
	if (op->op == TENON__BULK_REQUEST__OP_LIST && !op->ended) {
		op->ended = true;
		out->kind = BULK_EVENT;
		out->bulk.event = &op->event;
		return;
	}
	if (op->op == TENON__BULK_REQUEST__OP_CONNECT) {
		out->kind = BULK_WAIT;
		if (op->at < op->end && op->room) {
			out->kind = BULK_DATA;
			out->bulk.data = op->piece + op->at;
			out->bulk.len = op->end - op->at < max ? op->end - op->at : max;
			op->at += out->bulk.len;
		} else if (op->at == op->end && op->end_sent && !op->ended) {
			op->ended = op->done = true;
			out->kind = BULK_END;
		}
		return;
	}
	if (writes ? !op->end_sent : op->at < op->end) {
		if (writes || !op->room)
			return;
		size_t n = op->end - op->at;
		n = n < max ? n : max;
		n = n < op->room ? n : op->room;
		memcpy(op->piece, fake_file + op->at, n);
		op->room -= n;
		op->at += n;
		out->kind = BULK_DATA;
		out->bulk.data = op->piece;
		out->bulk.len = n;
		return;
	}
	op->done = true;
	out->kind = BULK_END;
}

size_t box_bulk_room(struct box_bulk *op)
{
	size_t room = op->answered ? op->room : 0;
	if (op->op == TENON__BULK_REQUEST__OP_CONNECT) {
		if (op->at == op->end)
			op->at = op->end = 0;
		room = op->end || !op->answered ? 0 : sizeof op->piece;
	}
	op->wants_room |= room == 0;
	return room;
}

void box_bulk_send(struct box_bulk *op, const void *data, size_t len)
{
	if (op->op == TENON__BULK_REQUEST__OP_CONNECT) {
		assert_true(op->end + len <= sizeof op->piece);
		memcpy(op->piece + op->end, data, len);
		op->end += len;
		return;
	}
	assert_true(len <= op->room);
	fake_file = realloc(fake_file, fake_size + len);
	memcpy(fake_file + fake_size, data, len);
	fake_size += len;
	op->room -= len;
}

void box_bulk_send_end(struct box_bulk *op)
{
	op->end_sent = true;
}

int box_open_console(const struct box *b)
{
	char path[] = "/tmp/tn-console-XXXXXX";
	(void)b;
	int fd = mkstemp(path);
	unlink(path);
	return dprintf(fd, "Linux version\n") > 0 ? fd : -1;
}

void boxes_get_metrics(struct boxes *bs, const char *prefix, struct boxes_metrics *out)
{
	*out = (struct boxes_metrics){.created = boxes_count(bs, prefix)};
}
