/* A box made of another's disk: the other is cut, and the new one's first layer lies on what that froze.
 * Nothing is copied; what both lie on is theirs as long as either is there (layers.h counts). What makes it
 * another box is its id and name, and with it the hostname; /etc/machine-id and the like in its files are the
 * image's. Both go on naming the same volumes. */
#include <errno.h>
#include <stdlib.h>

#include "box.h"
#include "proto/cleanup.h"

struct clone {
	struct box *box; /* the new one: not listed yet, but its name is taken */
	struct img *img;
	box_done_fn done;
	void *arg;
};

static void give_up(struct clone *c, const struct failure *f)
{
	struct box *b = c->box;
	box_done_fn done = c->done;
	void *arg = c->arg;
	b->clone = NULL;
	free(c);
	layer_unref(steal_ptr(&b->layer));
	box_destroy(b);
	done(arg, NULL, f);
}

static void on_made(void *arg, const struct err *e)
{
	struct clone *c = arg;
	struct failure f;
	c->img = NULL;
	if (e) {
		box_failure(&f, e->errnum == ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL, "%s", e->msg);
		give_up(c, &f);
		return;
	}
	struct box *b = c->box;
	b->clone = NULL;
	boxes_insert(b, c->done, c->arg);
	free(c);
}

static void on_cut(void *arg, struct box *original, struct layer *frozen, uint64_t pause_us,
		   const struct failure *f)
{
	struct clone *c = arg;
	struct box *b = c->box;
	struct failure own;
	struct err e = {0};
	(void)original;
	(void)pause_us;
	if (f) {
		give_up(c, f);
		return;
	}
	if (layer_depth(frozen) >= LAYERS_DEPTH_MAX)
		err_set(&e, "disk", EMLINK, "%d layers lie on one another already", LAYERS_DEPTH_MAX);
	else if (!(b->layer = layers_make(b->boxes->layers, frozen)))
		err_sys(&e, "disk", ENOMEM, "a layer");
	else
		disk_overlay(&c->img, b->boxes->config.loop, b->layer, b->row.disk_size_gb, on_made, c, &e);
	layer_unref(frozen);
	if (e.errnum) {
		box_failure(&own, FAIL_EXHAUSTED, "%s", e.msg);
		give_up(c, &own);
	}
}

void box_clone(struct box *original, const char *name, box_done_fn done, void *arg)
{
	struct boxes *bs = original->boxes;
	struct box_row row;
	struct box *b = NULL;
	struct failure f;
	if (name && boxes_is_taken(bs, original->row.prefix, name)) {
		box_failure(&f, FAIL_EXISTS, "a box named %s exists", name);
		done(arg, NULL, &f);
		return;
	}
	struct clone *c = calloc(1, sizeof *c);
	int r = box_row_init_like(&row, &original->row, name);
	if (c && r == 0)
		b = box_create(bs, &row);
	else
		box_row_finish(&row);
	if (!b) {
		free(c);
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		done(arg, NULL, &f);
		return;
	}
	*c = (struct clone){.box = b, .done = done, .arg = arg};
	b->clone = c;
	box_cut(original, on_cut, c);
}

void clone_abandon(struct clone *c)
{
	struct failure f;
	box_failure(&f, FAIL_UNAVAILABLE, "tenond is ending");
	img_cancel(c->img);
	c->done(c->arg, NULL, &f);
	free(c);
}
