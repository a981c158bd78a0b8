/* Work on a box's disk, one piece at a time: to freeze it and go on in a new layer (a cut), to go back to an
 * older one, to look which one an adopted VM has.
 *
 * Which layer is the box's must be known whatever dies at whatever moment. Without a VM it is simple: the new
 * file is made and synced, then one transaction names it. With one, QEMU and the database cannot change in
 * one step, so the new layer is named as `next` before QEMU is asked to go on in it:
 *
 *   file made → next = N committed → guest frozen → QEMU goes on in N → guest thawed → disk = N committed
 *
 * A tenond that finds a next asks QEMU which of the two it has. If there is no QEMU left to ask, it is N:
 * either QEMU did write into it, or it is empty and shows what lies below, to which QEMU wrote last. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "proto/cleanup.h"
#include "vmm_call.h"

#define QMP_MS 5000
#define FROZEN_MAX_MS 60000 /* then the agent thaws by itself */
#define THAW_RETRY_MS 100
#define THAW_TRIES (FROZEN_MAX_MS / THAW_RETRY_MS)
#define DISK_DEVICE "/disk1/" /* in QEMU's path of it: tenon-vmm's second --disk */

enum kind { CUT, SET_BACK, LOOK };

struct disk_op {
	TAILQ_ENTRY(disk_op) entry;
	struct box *box;
	enum kind kind;
	struct layer *base; /* what is frozen, or gone back to */
	struct layer *over; /* the new layer upon it */
	struct img *img;
	struct vmm_call *call;
	uv_timer_t timer;
	bool committing, switched, abandoned;
	bool waits;         /* for a merge to end */
	bool awaits_starts; /* of executions */
	unsigned tries;
	char node[32]; /* QEMU's name for what it writes into */
	uint64_t frozen_ns, pause_us;
	struct failure failure;             /* kept while what was begun is undone */
	void (*then)(struct disk_op *op);   /* after a commit that succeeded */
	void (*thawed)(struct disk_op *op); /* after the guest was thawed, as far as it could be */
	box_cut_fn done;
	void *arg;
};

static void begin(struct disk_op *op);
static void cut_running(struct disk_op *op);

/* ---- its end --------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

static void free_op(struct disk_op *op)
{
	uv_close((uv_handle_t *)&op->timer, on_closed);
}

static void run_next(struct box *b)
{
	struct disk_op *op = TAILQ_FIRST(&b->ops);
	if (b->op || b->boxes->closing)
		return;
	if (op) {
		TAILQ_REMOVE(&b->ops, op, entry);
		b->op = op;
		begin(op);
	} else if (b->removal_waits) {
		box_remove(b);
	}
}

static void set_thawed(struct box *b)
{
	if (!b->frozen)
		return;
	b->frozen = false;
	box_tell(b, WISH_THAWED, NULL);
}

static void finish(struct disk_op *op, const struct failure *f)
{
	struct box *b = op->box;
	struct layer *frozen = !f && op->kind == CUT ? layer_ref(op->base) : NULL;
	b->op = NULL;
	b->disk_held = false;
	set_thawed(b);
	/* A start that waits goes first: what it was asked for is older than what is asked next. */
	box_disk_free(b);
	if (op->done)
		op->done(op->arg, b, frozen, op->pause_us, f);
	layer_unref(op->base);
	layer_unref(op->over);
	free_op(op);
	merge_kick(b->boxes);
	run_next(b);
}

static void fail(struct disk_op *op, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fail(struct disk_op *op, enum failure_kind kind, const char *fmt, ...)
{
	struct failure f = {.kind = kind};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(f.message, sizeof f.message, fmt, ap);
	va_end(ap);
	finish(op, &f);
}

static void fail_disk(struct disk_op *op, const struct err *e)
{
	fail(op, e->errnum == ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL, "%s", e->msg);
}

/* ---- commits --------------------------------------------------------------------------------------- */

struct disk_commit {
	struct disk_op *op; /* NULL: nobody waits for it */
	struct boxes *boxes;
	char box[ULID_LENGTH + 1], disk[ULID_LENGTH + 1], next[ULID_LENGTH + 1];
	char made[ULID_LENGTH + 1], below[ULID_LENGTH + 1]; /* a row of a layer that goes first; "": none */
	bool written;
};

static int write_disk(sqlite3 *db, void *arg, struct err *e)
{
	const struct disk_commit *c = arg;
	int r = c->made[0] ? layer_insert(db, c->made, c->below, c->written, e) : 0;
	return r < 0 ? r : box_row_set_disk(db, c->box, c->disk, c->next, e);
}

static void on_disk_committed(void *arg, int status, const struct err *e)
{
	struct disk_commit *c = arg;
	struct disk_op *op = c->op;
	struct boxes *bs = c->boxes;
	if (status < 0)
		fprintf(stderr, "tenond: box %s: its disk is not committed: %s\n", c->box, e->msg);
	free(c);
	if (op) {
		op->committing = false;
		struct box *b = op->box;
		if (!op->abandoned && status < 0 && b->next && b->next == op->over && !op->switched)
			layer_unref(steal_ptr(&b->next));
		if (op->abandoned)
			free_op(op);
		else if (status < 0)
			fail(op, status == -ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL, "the database failed: %s",
			     e->msg);
		else
			op->then(op);
	}
	boxes_unref(bs);
}

/* made, if not NULL: its row is new. op NULL: nothing follows. */
static void commit(struct box *b, const struct layer *disk, const struct layer *next,
		   const struct layer *made, struct disk_op *op, void (*then)(struct disk_op *op))
{
	struct disk_commit *c = calloc(1, sizeof *c);
	if (!c)
		abort(); /* as in store_submit */
	c->op = op;
	c->boxes = b->boxes;
	strcpy(c->box, b->row.id);
	strcpy(c->disk, disk->id);
	strcpy(c->next, next ? next->id : "");
	if (made) {
		strcpy(c->made, made->id);
		strcpy(c->below, made->below->id);
		c->written = made->written;
	}
	if (op) {
		op->then = then;
		op->committing = true;
	}
	boxes_ref(b->boxes);
	store_submit(b->boxes->config.store, write_disk, on_disk_committed, c);
}

/* ---- a new layer ----------------------------------------------------------------------------------- */

static void make_over(struct disk_op *op, void (*made)(void *arg, const struct err *e))
{
	struct box *b = op->box;
	struct err e = {0};
	if (layer_depth(op->base) >= LAYERS_DEPTH_MAX) {
		fail(op, FAIL_EXHAUSTED,
		     "%d layers lie on one another already: delete snapshots and stop the box, which lets "
		     "them become fewer",
		     LAYERS_DEPTH_MAX);
		return;
	}
	op->over = layers_make(b->boxes->layers, op->base);
	if (!op->over)
		err_sys(&e, "disk", ENOMEM, "a layer");
	if (!op->over ||
	    disk_overlay(&op->img, b->boxes->config.loop, op->over, b->row.disk_size_gb, made, op, &e) < 0)
		fail_disk(op, &e);
}

/* ---- without a VM ---------------------------------------------------------------------------------- */

static void on_switched_offline(struct disk_op *op)
{
	struct box *b = op->box;
	layer_unref(b->layer);
	b->layer = layer_ref(op->over);
	finish(op, NULL);
}

static void on_over_offline(void *arg, const struct err *e)
{
	struct disk_op *op = arg;
	op->img = NULL;
	if (e)
		fail_disk(op, e);
	else
		commit(op->box, op->over, NULL, op->over, op, on_switched_offline);
}

static void on_there(void *arg, const struct err *e)
{
	struct disk_op *op = arg;
	struct layer *l = op->box->layer;
	op->img = NULL;
	if (e) {
		fail_disk(op, e);
		return;
	}
	if (op->kind == CUT && !l->written && l->below) {
		/* Nothing was written since the last cut: what that one froze serves again. */
		op->base = layer_ref(l->below);
		finish(op, NULL);
		return;
	}
	if (op->kind == CUT)
		op->base = layer_ref(l);
	make_over(op, on_over_offline);
}

static void work_offline(struct disk_op *op)
{
	struct box *b = op->box;
	const struct boxes_config *c = &b->boxes->config;
	char template[BOX_PATH_MAX];
	struct err e = {0};
	b->disk_held = true;
	/* What is merged is open elsewhere, and about to have another name. */
	op->waits = merge_stop(b->boxes, b->layer);
	if (op->waits)
		return;
	snprintf(template, sizeof template, "%s/upper.ext4", c->images_dir);
	bool mend = op->kind == CUT && b->unclean;
	if (disk_ensure(&op->img, c->loop, template, b->layer, b->row.disk_size_gb, mend, on_there, op, &e) <
	    0)
		fail_disk(op, &e);
}

/* ---- QEMU ------------------------------------------------------------------------------------------ */

static void qmp(struct disk_op *op, json_t *command, vmm_call_fn answered)
{
	char path[108];
	struct err e = {0};
	snprintf(path, sizeof path, "%s/vmm.sock", op->box->run_dir);
	if (vmm_call_qmp(&op->call, op->box->boxes->config.loop, path, command, QMP_MS, answered, op, &e) < 0)
		answered(op, NULL, &e);
}

static void name_node(char out[32], const char *kind, const struct layer *l)
{
	snprintf(out, 32, "%.4s-%.*s", kind, ULID_LENGTH, l->id);
}

/* The disk of the box among QEMU's: the name of its node and the layer whose file that has. */
static struct layer *find_active(struct disk_op *op, const json_t *devices, struct err *e)
{
	size_t i;
	const json_t *d;
	json_array_foreach (devices, i, d) {
		const char *qdev = json_string_value(json_object_get(d, "qdev"));
		const json_t *in = json_object_get(d, "inserted");
		const char *node = json_string_value(json_object_get(in, "node-name"));
		const char *file = json_string_value(json_object_get(in, "file"));
		if (!qdev || !strstr(qdev, DISK_DEVICE) || !node || !file)
			continue;
		const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
		struct layer *const mine[] = {op->box->layer, op->box->next};
		snprintf(op->node, sizeof op->node, "%s", node);
		for (int k = 0; k < 2; k++)
			if (mine[k] && strncmp(base, mine[k]->id, ULID_LENGTH) == 0)
				return mine[k];
		/* Of before there were layers: QEMU goes by the name that it has opened. */
		if (strcmp(base, "upper.qcow2") == 0)
			return op->box->layer;
		err_set(e, "disk", EINVAL, "the VM writes into %s, which is not the box's", base);
		return NULL;
	}
	err_set(e, "disk", ENOENT, "the VM has no disk");
	return NULL;
}

static void on_looked_at(struct disk_op *op)
{
	if (op->kind == LOOK)
		finish(op, NULL);
	else
		cut_running(op);
}

/* QEMU has not taken it, and will not. */
static void drop_next(struct disk_op *op, void (*then)(struct disk_op *op))
{
	struct box *b = op->box;
	struct layer *next = steal_ptr(&b->next);
	commit(b, b->layer, NULL, NULL, op, then);
	layer_unref(next);
}

static void take_next(struct box *b)
{
	struct layer *old = b->layer;
	b->layer = steal_ptr(&b->next);
	layer_unref(old);
}

static void on_node_deleted(void *arg, const Tenon__VmmResponse *m, const struct err *e)
{
	struct disk_op *op = arg;
	(void)m;
	(void)e;
	op->call = NULL;
	if (op->box->next)
		drop_next(op, on_looked_at);
	else
		fail(op, FAIL_UNAVAILABLE, "the box has ended");
}

static void delete_node(struct disk_op *op, const struct layer *l, vmm_call_fn answered)
{
	char node[32];
	name_node(node, "disk", l);
	qmp(op, json_pack("{s:s, s:{s:s}}", "execute", "blockdev-del", "arguments", "node-name", node),
	    answered);
}

static void on_look(void *arg, const Tenon__VmmResponse *m, const struct err *why)
{
	struct disk_op *op = arg;
	struct box *b = op->box;
	struct err e = {0};
	op->call = NULL;
	json_t *devices = vmm_call_returned(m, why, &e);
	struct layer *active = devices ? find_active(op, devices, &e) : NULL;
	json_decref(devices);
	if (!active) {
		if (op->kind == LOOK)
			fprintf(stderr, "tenond: box %s: which disk its VM has is not known: %s\n", b->row.id,
				e.msg);
		fail(op, FAIL_UNAVAILABLE, "%s", e.msg);
	} else if (active == b->next) {
		take_next(b);
		commit(b, b->layer, NULL, NULL, op, on_looked_at);
	} else if (b->next) {
		delete_node(op, b->next, on_node_deleted);
	} else {
		on_looked_at(op);
	}
}

static void look(struct disk_op *op)
{
	qmp(op, json_pack("{s:s}", "execute", "query-block"), on_look);
}

/* ---- with a VM ------------------------------------------------------------------------------------- */

static void on_dropped(struct disk_op *op)
{
	finish(op, &op->failure);
}

static void on_undone(void *arg, const Tenon__VmmResponse *m, const struct err *e)
{
	struct disk_op *op = arg;
	(void)m;
	(void)e;
	op->call = NULL;
	if (op->box->next)
		drop_next(op, on_dropped);
	else
		on_dropped(op);
}

/* Before QEMU has the new layer: what was prepared goes, then the failure is told. */
static void undo(struct disk_op *op, const struct failure *f)
{
	op->failure = *f;
	delete_node(op, op->over, on_undone);
}

static void on_committed_running(struct disk_op *op)
{
	struct box *b = op->box;
	if (b->next)
		take_next(b);
	finish(op, NULL);
}

static void settle_cut(struct disk_op *op)
{
	struct box *b = op->box;
	op->pause_us = (uv_hrtime() - op->frozen_ns) / 1000;
	if (op->switched && b->next)
		commit(b, b->next, NULL, NULL, op, on_committed_running);
	else if (op->switched)
		finish(op, NULL); /* the VM has ended since, and the new layer is the box's */
	else if (op->failure.kind == FAIL_UNAVAILABLE)
		finish(op, &op->failure); /* it may have been switched: next stays until that is known */
	else
		undo(op, &op->failure);
}

static void ask_to_thaw(struct disk_op *op);

static void on_thaw_retry(uv_timer_t *t)
{
	ask_to_thaw(t->data);
}

static void on_thawed(void *arg, const struct failure *f)
{
	struct disk_op *op = arg;
	struct box *b = op->box;
	/* A link that broke, or is not there yet, comes in a moment, and the box should not stand still for a
	 * minute. */
	if (f && f->kind == FAIL_UNAVAILABLE && b->session && ++op->tries < THAW_TRIES) {
		uv_timer_start(&op->timer, on_thaw_retry, THAW_RETRY_MS, 0);
		return;
	}
	if (f && b->session)
		fprintf(stderr, "tenond: box %s: it is not thawed: %s\n", b->row.id, f->message);
	set_thawed(b);
	op->thawed(op);
}

static void ask_to_thaw(struct disk_op *op)
{
	struct failure gone = {.kind = FAIL_UNAVAILABLE};
	if (op->box->session)
		session_resume(op->box->session, on_thawed, op);
	else
		on_thawed(op, &gone);
}

static void thaw(struct disk_op *op, void (*thawed)(struct disk_op *op))
{
	op->tries = 0;
	op->thawed = thawed;
	ask_to_thaw(op);
}

static void on_switched(void *arg, const Tenon__VmmResponse *m, const struct err *why)
{
	struct disk_op *op = arg;
	struct err e = {0};
	op->call = NULL;
	json_t *returned = vmm_call_returned(m, why, &e);
	bool in_time = uv_hrtime() - op->frozen_ns < (FROZEN_MAX_MS - QMP_MS) * 1000000ull;
	op->switched = returned;
	json_decref(returned);
	if (!op->switched)
		box_failure(&op->failure, e.errnum == EREMOTEIO ? FAIL_INTERNAL : FAIL_UNAVAILABLE, "%s",
			    e.msg);
	else if (!in_time)
		fprintf(stderr, "tenond: box %s: the guest may have thawed before its disk was cut\n",
			op->box->row.id);
	thaw(op, settle_cut);
}

static void on_quiesced(void *arg, const struct failure *f)
{
	struct disk_op *op = arg;
	char node[32];
	if (f) {
		op->failure = *f;
		/* Unlike what QEMU does with no answer, this is known: it was not asked. */
		if (op->failure.kind == FAIL_UNAVAILABLE)
			op->failure.kind = FAIL_TIMEOUT;
		thaw(op, settle_cut);
		return;
	}
	name_node(node, "disk", op->over);
	qmp(op,
	    json_pack("{s:s, s:{s:s, s:s}}", "execute", "blockdev-snapshot", "arguments", "node", op->node,
		      "overlay", node),
	    on_switched);
}

static void quiesce(struct disk_op *op)
{
	struct box *b = op->box;
	struct failure f;
	op->awaits_starts = b->starts;
	if (op->awaits_starts)
		return; /* their commands would come to a frozen box; box_disk_go_on comes back here */
	if (!b->session) {
		box_failure(&f, FAIL_UNAVAILABLE, "the box has ended");
		undo(op, &f);
		return;
	}
	op->frozen_ns = uv_hrtime();
	session_quiesce(b->session, FROZEN_MAX_MS, on_quiesced, op);
}

static void on_node_added(void *arg, const Tenon__VmmResponse *m, const struct err *why)
{
	struct disk_op *op = arg;
	struct err e = {0};
	struct failure f;
	op->call = NULL;
	json_t *returned = vmm_call_returned(m, why, &e);
	json_decref(returned);
	if (returned) {
		op->box->frozen = true; /* from now on they wait */
		quiesce(op);
		return;
	}
	box_failure(&f, FAIL_UNAVAILABLE, "%s", e.msg);
	undo(op, &f);
}

static void on_next_named(struct disk_op *op)
{
	struct box *b = op->box;
	char node[32], file[32], path[LAYERS_PATH_MAX];
	if (b->next != op->over) {
		fail(op, FAIL_UNAVAILABLE, "the box has ended");
		return;
	}
	name_node(node, "disk", op->over);
	name_node(file, "file", op->over);
	layer_path(op->over, path);
	qmp(op,
	    json_pack("{s:s, s:{s:s, s:s, s:s, s:n, s:{s:s, s:s, s:s, s:s}}}", "execute", "blockdev-add",
		      "arguments", "driver", "qcow2", "node-name", node, "discard", "unmap", "backing",
		      "file", "driver", "file", "node-name", file, "filename", path, "discard", "unmap"),
	    on_node_added);
}

static void on_over_running(void *arg, const struct err *e)
{
	struct disk_op *op = arg;
	struct box *b = op->box;
	op->img = NULL;
	op->over->written = true;
	if (e) {
		fail_disk(op, e);
		return;
	}
	if (b->layer != op->base || !state_has_vm(b->row.life.status)) {
		fail(op, FAIL_UNAVAILABLE, "the box has ended");
		return;
	}
	/* From now on: should the VM end before this is committed, that will be, after it. */
	b->next = layer_ref(op->over);
	commit(b, op->base, op->over, op->over, op, on_next_named);
}

static void cut_running(struct disk_op *op)
{
	op->base = layer_ref(op->box->layer);
	make_over(op, on_over_running);
}

/* ---- the beginning --------------------------------------------------------------------------------- */

static void on_joined(void *arg, struct box *b, const struct failure *f)
{
	struct disk_op *op = arg;
	(void)b;
	(void)f; /* what has become of the box decides, and begin looks at that */
	if (!op->box->boxes->closing)
		begin(op);
}

static void begin(struct disk_op *op)
{
	struct box *b = op->box;
	enum box_status status = b->row.life.status;
	bool runs = status == BOX_RUNNING && b->told.status == BOX_RUNNING;
	if (op->kind == LOOK && !runs) {
		finish(op, NULL);
	} else if (b->doomed) {
		fail(op, FAIL_NOT_FOUND, "the box is being deleted");
	} else if (op->kind == SET_BACK && state_has_vm(status)) {
		fail(op, FAIL_CONFLICT, "the box is %s: a snapshot is restored while it is stopped",
		     state_name(status));
	} else if (runs && b->next) {
		/* Whoever named it may have frozen the guest. Thawed before QEMU is asked, which a slow disk
		 * may keep from answering in time. */
		thaw(op, look);
	} else if (runs) {
		look(op);
	} else if (status == BOX_STARTING || status == BOX_RUNNING) {
		box_start(b, on_joined, op);
	} else if (state_has_vm(status) || state_has_vm(b->told.status)) {
		box_stop(b, 0, on_joined, op);
	} else {
		work_offline(op);
	}
}

static void submit(struct box *b, enum kind kind, struct layer *base, box_cut_fn done, void *arg)
{
	struct disk_op *op = calloc(1, sizeof *op);
	if (!op)
		abort(); /* as in store_submit */
	*op = (struct disk_op){.box = b, .kind = kind, .base = base, .done = done, .arg = arg};
	uv_timer_init(b->boxes->config.loop, &op->timer);
	op->timer.data = op;
	TAILQ_INSERT_TAIL(&b->ops, op, entry);
	run_next(b);
}

void box_cut(struct box *b, box_cut_fn done, void *arg)
{
	submit(b, CUT, NULL, done, arg);
}

void box_set_back(struct box *b, struct layer *to, box_cut_fn done, void *arg)
{
	submit(b, SET_BACK, layer_ref(to), done, arg);
}

void box_disk_look(struct box *b)
{
	/* Whoever was at it may have frozen the guest: its commands wait until it is thawed. */
	b->frozen = b->next;
	submit(b, LOOK, NULL, NULL, NULL);
}

/* ---- what the rest of the box asks ------------------------------------------------------------------ */

void box_disk_vm_gone(struct box *b)
{
	if (!b->next || b->boxes->closing)
		return;
	commit(b, b->next, NULL, NULL, NULL, NULL);
	take_next(b);
}

void box_disk_go_on(struct box *b)
{
	struct disk_op *op = b->op;
	if (op && op->waits)
		work_offline(op);
	else if (op && op->awaits_starts && !b->starts)
		quiesce(op);
}

bool box_disk_is_held(struct box *b)
{
	return b->disk_held || merge_stop(b->boxes, b->layer);
}

bool box_disk_is_busy(const struct box *b)
{
	return b->op || !TAILQ_EMPTY(&b->ops);
}

static void abandon(struct disk_op *op)
{
	struct failure f;
	box_failure(&f, FAIL_UNAVAILABLE, "tenond is ending");
	img_cancel(steal_ptr(&op->img));
	vmm_call_cancel(steal_ptr(&op->call));
	uv_timer_stop(&op->timer);
	if (op->done)
		op->done(op->arg, op->box, NULL, 0, &f);
	op->abandoned = true;
	if (!op->committing)
		free_op(op);
}

void box_disk_abandon(struct box *b)
{
	struct disk_op *op;
	if (b->op)
		abandon(steal_ptr(&b->op));
	while ((op = TAILQ_FIRST(&b->ops))) {
		TAILQ_REMOVE(&b->ops, op, entry);
		abandon(op);
	}
}

void box_disk_drop(struct box *b)
{
	snapshots_drop(b, true);
	layer_unref(steal_ptr(&b->layer));
	layer_unref(steal_ptr(&b->next));
}
