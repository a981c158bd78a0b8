/* Names that go, and with the last name of an image its row and its file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/boxes/boxes.h"
#include "internal.h"
#include "rows.h"

struct departure {
	struct images *images;
	struct name **names;
	struct image **gone;
	size_t n_names, n_gone;
	images_gone_fn done;
	void *arg;
};

static int write_departure(sqlite3 *db, void *arg, struct err *e)
{
	const struct departure *d = arg;
	int r = 0;
	for (size_t i = 0; r == 0 && i < d->n_names; i++)
		r = name_row_delete(db, d->names[i]->prefix, d->names[i]->text, e);
	for (size_t i = 0; r == 0 && i < d->n_gone; i++)
		r = image_row_delete(db, d->gone[i]->digest, e);
	return r;
}

static void departure_free(struct departure *d)
{
	free(d->names);
	free(d->gone);
	free(d);
}

static void on_departed(void *arg, int status, const struct err *e)
{
	struct departure *d = arg;
	struct images *is = d->images;
	struct failure f;
	uint64_t bytes = 0;
	for (size_t i = 0; i < d->n_names; i++) {
		if (status == 0)
			name_free(d->names[i]);
		else
			d->names[i]->going = false;
	}
	for (size_t i = 0; i < d->n_gone; i++) {
		struct image *image = d->gone[i];
		image->going = false;
		if (status < 0)
			continue;
		bytes += image->size;
		image->going = true;
		/* It may have come again meanwhile. */
		if (!images_by_digest(is, image->digest) && !images_expect(is, image->digest))
			images_remove_file(is, image->digest);
		image_free(image);
	}
	if (status < 0)
		images_failure(&f, status == -ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL,
			       "the database failed: %s", e->msg);
	if (!is->closing)
		d->done(d->arg, (unsigned)d->n_names, bytes, status < 0 ? &f : NULL);
	departure_free(d);
	images_unref(is);
}

/* Collects what shall go: the names that fn says. */
static struct departure *depart(struct images *is, bool (*fn)(void *arg, const struct name *n), void *arg,
				images_gone_fn done, void *done_arg)
{
	struct departure *d = calloc(1, sizeof *d);
	struct image *image;
	struct name *n;
	size_t count = 0, images = 0;
	LIST_FOREACH (n, &is->names, entry)
		count++;
	LIST_FOREACH (image, &is->images, entry)
		images++;
	if (d)
		*d = (struct departure){.images = is,
					.names = calloc(count + 1, sizeof(struct name *)),
					.gone = calloc(images + 1, sizeof(struct image *)),
					.done = done,
					.arg = done_arg};
	if (!d || !d->names || !d->gone) {
		struct failure f;
		if (d)
			departure_free(d);
		images_failure(&f, FAIL_EXHAUSTED, "no memory");
		done(done_arg, 0, 0, &f);
		return NULL;
	}
	LIST_FOREACH (n, &is->names, entry)
		if (!n->going && fn(arg, n))
			d->names[d->n_names++] = n;
	return d;
}

static void submit(struct departure *d)
{
	struct images *is = d->images;
	for (size_t i = 0; i < d->n_names; i++)
		d->names[i]->going = true;
	for (size_t i = 0; i < d->n_names; i++) {
		struct image *image = d->names[i]->image;
		if (image->going || image->holds || images_any_name(is, NULL, image->digest, NULL))
			continue;
		image->going = true;
		d->gone[d->n_gone++] = image;
	}
	is->refs++;
	store_submit(is->config.store, write_departure, on_departed, d);
}

struct choice {
	struct images *images;
	const char *prefix;
	const char *text, *digest; /* delete: one of them */
	bool all;                  /* prune */
};

static bool is_meant(void *arg, const struct name *n)
{
	const struct choice *c = arg;
	return strcmp(n->prefix, c->prefix) == 0 &&
	       (c->digest ? strcmp(n->image->digest, c->digest) == 0 : strcmp(n->text, c->text) == 0);
}

void images_delete(struct images *is, const char *prefix, const char *text, images_gone_fn done, void *arg)
{
	struct image_info i;
	struct err e = {0};
	struct failure f;
	char reference[REFERENCE_TEXT_SIZE];
	int r = images_find(is, prefix, text, &i, &e);
	struct choice c = {.images = is, .prefix = prefix, .text = reference};
	if (r < 0) {
		images_failure(&f, r == -ENOENT ? FAIL_NOT_FOUND : FAIL_INVALID, "%s", e.msg);
	} else if (i.builtin) {
		images_failure(&f, FAIL_CONFLICT, BOX_IMAGE " is built in and stays");
	} else {
		snprintf(reference, sizeof reference, "%s", i.reference);
		if (digest_is_valid(text))
			c.digest = i.digest;
		const struct name *n = images_name(is, prefix, reference);
		bool last = c.digest || !images_any_name(is, prefix, i.digest, n);
		if (!last || !i.boxes) {
			struct departure *d = depart(is, is_meant, &c, done, arg);
			if (d)
				submit(d);
			return;
		}
		images_failure(&f, FAIL_CONFLICT, "%.200s: %u box%s made of it", reference, i.boxes,
			       i.boxes == 1 ? " is" : "es are");
	}
	done(arg, 0, 0, &f);
}

static bool is_unused(void *arg, const struct name *n)
{
	const struct choice *c = arg;
	const struct images *is = c->images;
	return strcmp(n->prefix, c->prefix) == 0 && (c->all || n->reference.digest[0]) &&
	       is->config.in_use(is->config.arg, n->prefix, n->image->digest) == 0;
}

void images_prune(struct images *is, const char *prefix, bool all, images_gone_fn done, void *arg)
{
	struct choice c = {.images = is, .prefix = prefix, .all = all};
	struct departure *d = depart(is, is_unused, &c, done, arg);
	if (d)
		submit(d);
}
