/* A bulk operation in a box that may have to be started first. */
#include <stdlib.h>
#include <string.h>

#include "box.h"

struct box_bulk {
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

static void op_free(struct box_bulk *op)
{
	bulk_destroy(op->bulk);
	tenon__bulk_request__free_unpacked(op->req, NULL);
	free(op);
}

static void op_fail(struct box_bulk *op, const struct failure *f)
{
	op->failed = true;
	op->failure = *f;
}

static void open_bulk(struct box_bulk *op, struct box *b, const Tenon__BulkRequest *req)
{
	struct failure f;
	struct err e = {.msg = "the box is not connected"};
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
		box_start(b, on_started, op);
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
