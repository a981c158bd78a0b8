#include <stdlib.h>

#include "internal.h"

struct bulk_call {
	struct http_request *r;
	struct box_bulk *op;
	rest_answer_fn answer; /* NULL: it gathers */
	void (*add)(json_t *object, const Tenon__BulkEvent *event);
	json_t *object;
	bool start_box;
};

static void call_free(struct bulk_call *c)
{
	box_bulk_close(c->op);
	json_decref(c->object);
	free(c);
}

static void on_wake(void *arg)
{
	struct bulk_call *c = arg;
	struct box_bulk_item item;
	do {
		box_bulk_next(c->op, 0, &item);
		if (item.kind == BULK_EVENT)
			c->add(c->object, item.bulk.event);
	} while (item.kind == BULK_EVENT || (item.kind == BULK_ANSWER && !c->answer));
	switch (item.kind) {
	case BULK_ANSWER:
		c->answer(c->r, item.bulk.answer, c->object);
		break;
	case BULK_END:
		http_reply_json(c->r, 200, json_incref(c->object));
		break;
	case BULK_FAILED:
		rest_reply_failure(c->r, &item.failure);
		break;
	default:
		return;
	}
	call_free(c);
}

static void on_gone(void *arg)
{
	struct bulk_call *c = arg;
	http_reply_empty(c->r, 204);
	call_free(c);
}

static void start(struct http_request *r, struct box *b, const Tenon__BulkRequest *req,
		  const struct bulk_call *how)
{
	struct bulk_call *c = malloc(sizeof *c);
	if (!c) {
		json_decref(how->object);
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	*c = *how;
	c->r = r;
	c->op = box_bulk(b, req, how->start_box, on_wake, c);
	http_on_gone(r, on_gone, c);
	on_wake(c);
}

void rest_bulk_call(struct http_request *r, struct box *b, const Tenon__BulkRequest *req, bool start_box,
		    rest_answer_fn answer, json_t *object)
{
	start(r, b, req, &(struct bulk_call){.answer = answer, .object = object, .start_box = start_box});
}

void rest_answer_empty(struct http_request *r, const Tenon__BulkResponse *answer, json_t *object)
{
	(void)answer;
	(void)object;
	http_reply_empty(r, 204);
}

void rest_bulk_gather(struct http_request *r, struct box *b, const Tenon__BulkRequest *req, bool start_box,
		      void (*add)(json_t *object, const Tenon__BulkEvent *event), json_t *object)
{
	start(r, b, req, &(struct bulk_call){.add = add, .object = object, .start_box = start_box});
}
