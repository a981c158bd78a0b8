/* A bulk operation in a box that may have to be started first. */
#include <stdlib.h>
#include <string.h>

#include "box.h"

struct box_bulk {
	LIST_ENTRY(box_bulk) entry; /* of those that wait for the link */
	bool unlinked;              /* it is one of them, and the deadline runs */
	uv_timer_t deadline;
	struct bulk *bulk;       /* once the box runs */
	Tenon__BulkRequest *req; /* until then */
	bool opening;            /* box_bulk has not returned: its caller asks next, and is not to be woken */
	bool starting, closed;
	bool failed;
	struct failure failure;
	struct box_use use;
	void (*wake)(void *arg);
	void *arg;
};

static void op_closed(uv_handle_t *h)
{
	free(h->data);
}

static void op_free(struct box_bulk *op)
{
	if (op->unlinked)
		LIST_REMOVE(op, entry);
	bulk_destroy(op->bulk);
	tenon__bulk_request__free_unpacked(op->req, NULL);
	uv_close((uv_handle_t *)&op->deadline, op_closed);
}

static void op_fail(struct box_bulk *op, const struct failure *f)
{
	op->failed = true;
	op->failure = *f;
}

static void op_relink(struct box_bulk *op)
{
	LIST_REMOVE(op, entry);
	op->unlinked = false;
	uv_timer_stop(&op->deadline);
}

static void op_give_up(struct box_bulk *op)
{
	struct failure f;
	box_failure(&f, FAIL_UNAVAILABLE, "the box is not connected");
	op_relink(op);
	op_fail(op, &f);
	op->wake(op->arg);
}

static void on_deadline(uv_timer_t *t)
{
	op_give_up(t->data);
}

/* A deep copy by packing. */
static Tenon__BulkRequest *copy_request(const Tenon__BulkRequest *req)
{
	size_t len = tenon__bulk_request__get_packed_size(req);
	uint8_t *packed = malloc(len + 1);
	if (!packed)
		return NULL;
	tenon__bulk_request__pack(req, packed);
	Tenon__BulkRequest *copy = tenon__bulk_request__unpack(NULL, len, packed);
	free(packed);
	return copy;
}

/* The link broke and is being made again, which is a matter of milliseconds unless something is wrong. */
static void await_link(struct box_bulk *op, struct box *b, const Tenon__BulkRequest *req)
{
	struct failure f;
	if (!op->req && !(op->req = copy_request(req))) {
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		op_fail(op, &f);
		return;
	}
	LIST_INSERT_HEAD(&b->unlinked, op, entry);
	op->unlinked = true;
	uv_timer_start(&op->deadline, on_deadline, BULK_HELLO_MS, 0);
}

static void open_bulk(struct box_bulk *op, struct box *b, const Tenon__BulkRequest *req)
{
	struct failure f;
	struct err e = {.msg = "the box is not connected"};
	if (b->session && !session_up(b->session)) {
		await_link(op, b, req);
		return;
	}
	if (b->session && session_bulk(b->session, req, op->wake, op->arg, &op->bulk, &e) == 0)
		return;
	box_failure(&f, e.errnum == EMSGSIZE ? FAIL_INVALID : FAIL_UNAVAILABLE, "%s", e.msg);
	op_fail(op, &f);
}

static void on_started(void *arg, struct box *b, const struct failure *f)
{
	struct box_bulk *op = arg;
	op->starting = false;
	if (op->closed) {
		op_free(op);
		return;
	}
	if (f)
		op_fail(op, f);
	else
		open_bulk(op, b, op->req);
	/* A bulk that was opened wakes by itself. */
	if (op->failed && !op->opening)
		op->wake(op->arg);
}

void box_bulks_begin(struct box *b)
{
	struct box_bulk *op;
	while ((op = LIST_FIRST(&b->unlinked)) && session_up(b->session)) {
		op_relink(op);
		open_bulk(op, b, op->req);
		if (op->failed)
			op->wake(op->arg);
	}
}

void box_bulks_fail(struct box *b)
{
	while (!LIST_EMPTY(&b->unlinked))
		op_give_up(LIST_FIRST(&b->unlinked));
}

struct box_bulk *box_bulk(struct box *b, const Tenon__BulkRequest *req, bool start, void (*wake)(void *arg),
			  void *arg)
{
	struct failure f;
	struct box_bulk *op = calloc(1, sizeof *op);
	if (!op)
		abort(); /* as in store_submit: there is nothing left to tell it with */
	op->wake = wake;
	op->arg = arg;
	/* What never starts a box, like its metrics, does not keep it either. */
	if (start)
		box_use_begin(b, &op->use);
	uv_timer_init(b->boxes->config.loop, &op->deadline);
	op->deadline.data = op;
	if (b->row.life.status == BOX_RUNNING && b->told.status == BOX_RUNNING && b->session) {
		open_bulk(op, b, req);
		return op;
	}
	if (!start) {
		box_failure(&f, FAIL_CONFLICT, "the box does not run");
		op_fail(op, &f);
	} else if (!box_may_resume(b, &f)) {
		op_fail(op, &f);
	} else if (!(op->req = copy_request(req))) {
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		op_fail(op, &f);
	} else {
		op->starting = op->opening = true;
		box_start_for_use(b, on_started, op);
		op->opening = false;
	}
	return op;
}

void box_bulk_close(struct box_bulk *op)
{
	if (!op)
		return;
	op->closed = true;
	box_use_end(&op->use);
	if (!op->starting)
		op_free(op);
}

static void tell_failure(struct box_bulk *op, struct box_bulk_item *out)
{
	struct failure f;
	const struct bulk_item *i = &out->bulk;
	if (i->error)
		failure_from_agent(&f, i->error);
	else
		box_failure(&f, i->why->errnum == ETIMEDOUT ? FAIL_TIMEOUT : FAIL_UNAVAILABLE,
			    "the connection to the box broke: %s", i->why->msg);
	op_fail(op, &f);
}

void box_bulk_next(struct box_bulk *op, size_t max, struct box_bulk_item *out)
{
	out->kind = BULK_WAIT;
	if (op->bulk && !op->failed) {
		bulk_next(op->bulk, max, &out->bulk);
		out->kind = out->bulk.kind;
		if (out->kind == BULK_FAILED)
			tell_failure(op, out);
	}
	if (op->failed) {
		out->kind = BULK_FAILED;
		out->failure = op->failure;
	}
}

size_t box_bulk_room(struct box_bulk *op)
{
	return op->bulk ? bulk_room(op->bulk) : 0;
}

void box_bulk_send(struct box_bulk *op, const void *data, size_t len)
{
	bulk_send(op->bulk, data, len);
}

void box_bulk_send_end(struct box_bulk *op)
{
	bulk_send_end(op->bulk);
}
