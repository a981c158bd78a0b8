/* boxes.h without virtual machines: a box is a row in memory, its commands are processes of this host. */
#include <stdlib.h>
#include <string.h>

#include "fakes.h"
#include "host-shim/daemon/boxes/boxes.h"

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
	b->prefix = copy(spec->prefix);
	b->name = copy(spec->name);
	b->image = copy(spec->image);
	b->labels = copy(spec->labels_json);
	b->cwd = copy(spec->working_dir);
	b->info = (struct box_info){
		.id = b->id,
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

void boxes_get_metrics(struct boxes *bs, const char *prefix, struct boxes_metrics *out)
{
	*out = (struct boxes_metrics){.created = boxes_count(bs, prefix)};
}
