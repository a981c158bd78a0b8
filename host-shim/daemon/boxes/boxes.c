/* The registry: every box of this host, oldest first, and the way in and out of it. */
#include "boxes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "box.h"
#include "lower.h"
#include "proto/cleanup.h"

/* A box's longest socket name, below the runtime directory: guests may dial any host port (WIRE.md §8). */
#define LONGEST_SOCKET "/vsock.sock_4294967295"
#define SOCKET_PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

/* ---- one box's memory ------------------------------------------------------------------------------ */

static void free_box(uv_handle_t *timer)
{
	struct box *b = timer->data;
	box_row_finish(&b->row);
	free(b->state_dir);
	free(b->run_dir);
	free(b);
}

struct box *box_create(struct boxes *bs, struct box_row *row)
{
	struct box *b = calloc(1, sizeof *b);
	if (!b) {
		box_row_finish(row);
		return NULL;
	}
	b->boxes = bs;
	b->row = *row;
	b->told = row->life;
	b->unclean = row->life.status == BOX_FAILED;
	TAILQ_INIT(&b->waiters);
	TAILQ_INIT(&b->ops);
	TAILQ_INIT(&b->snapshots);
	LIST_INIT(&b->uses);
	box_touch(b);
	uv_timer_init(bs->config.loop, &b->timer);
	b->timer.data = b;
	if (asprintf(&b->state_dir, "%s/boxes/%s", bs->config.state_dir, b->row.id) < 0)
		b->state_dir = NULL;
	if (asprintf(&b->run_dir, "%s/%s", bs->config.runtime_dir, b->row.id) < 0)
		b->run_dir = NULL;
	if (!b->state_dir || !b->run_dir) {
		uv_close((uv_handle_t *)&b->timer, free_box);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&bs->list, b, entry);
	return b;
}

void box_release(struct box *b)
{
	uv_timer_stop(&b->timer);
	process_destroy(steal_ptr(&b->remover));
	box_main_release(b);
	img_cancel(steal_ptr(&b->disk));
	doorbell_destroy(steal_ptr(&b->doorbell));
	if (b->session)
		session_destroy(steal_ptr(&b->session), NULL);
	box_bulks_fail(b);
	vmm_destroy(steal_ptr(&b->vmm));
	box_disk_abandon(b);
	if (b->clone)
		clone_abandon(steal_ptr(&b->clone));
}

void box_destroy(struct box *b)
{
	box_release(b);
	snapshots_drop(b, false);
	box_uses_drop(b);
	TAILQ_REMOVE(&b->boxes->list, b, entry);
	uv_close((uv_handle_t *)&b->timer, free_box);
}

/* ---- the registry's own ---------------------------------------------------------------------------- */

void boxes_ref(struct boxes *bs)
{
	bs->refs++;
}

void boxes_unref(struct boxes *bs)
{
	if (--bs->refs > 0)
		return;
	struct box *b;
	while ((b = TAILQ_FIRST(&bs->list)))
		box_destroy(b);
	tally_clear(&bs->tallies);
	layers_destroy(bs->layers);
	struct boxes_config *c = &bs->config;
	const char *const strings[] = {c->state_dir, c->runtime_dir, c->vmm_path, c->kernel,
				       c->initrd,    c->images_dir,  c->machine,  c->resolv_conf};
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		free((void *)strings[i]);
	free(bs);
}

static void on_accel(void *arg, const char *result, const char *why)
{
	struct boxes *bs = arg;
	struct box *b, *next;
	fprintf(stderr, "tenond: boxes run under %s: %s\n", result, why);
	bs->accel_result = result;
	for (b = TAILQ_FIRST(&bs->list); b; b = next) {
		next = TAILQ_NEXT(b, entry);
		box_accel_known(b);
	}
}

static int copy_config(struct boxes_config *out, const struct boxes_config *c)
{
	*out = *c;
	out->state_dir = strdup(c->state_dir);
	out->runtime_dir = strdup(c->runtime_dir);
	out->vmm_path = strdup(c->vmm_path);
	out->kernel = strdup(c->kernel);
	out->initrd = strdup(c->initrd);
	out->images_dir = strdup(c->images_dir);
	out->machine = strdup(c->machine);
	out->resolv_conf = strdup(c->resolv_conf);
	out->accel = out->host_dir = NULL; /* needed now only */
	if (!out->boot_deadline_ms)
		out->boot_deadline_ms = 60000;
	return out->state_dir && out->runtime_dir && out->vmm_path && out->kernel && out->initrd &&
			       out->images_dir && out->machine && out->resolv_conf
		       ? 0
		       : -ENOMEM;
}

static int make_dirs(const struct boxes_config *c, struct err *e)
{
	_cleanup_free_ char *states = NULL;
	if (asprintf(&states, "%s/boxes", c->state_dir) < 0)
		return err_sys(e, "boxes", ENOMEM, "directories");
	if (mkdir(states, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "boxes", errno, "%s", states);
	/* tenon-vmm refuses what does not fit: better one word now than one at every start. */
	if (strlen(c->runtime_dir) + strlen("/") + ULID_LENGTH + sizeof LONGEST_SOCKET > SOCKET_PATH_SIZE)
		return err_set(e, "boxes", ENAMETOOLONG, "%s is too long a path for sockets", c->runtime_dir);
	return 0;
}

struct loading {
	struct boxes *bs;
	bool failed;
};

/* A disk that an older tenond made has its box's id, and its file was in the box's directory. */
static void fetch_old_disk(const struct box *b)
{
	_cleanup_free_ char *old = NULL;
	char path[LAYERS_PATH_MAX];
	layer_path(b->layer, path);
	if (strcmp(b->layer->id, b->row.id) == 0 && asprintf(&old, "%s/upper.qcow2", b->state_dir) >= 0 &&
	    rename(old, path) < 0 && errno != ENOENT)
		fprintf(stderr, "tenond: box %s: its disk is not moved: %s\n", b->row.id, strerror(errno));
}

static void take_row(void *arg, struct box_row *row)
{
	struct loading *l = arg;
	struct box *b = box_create(l->bs, row);
	l->failed |= !b;
	if (!b)
		return;
	b->listed = true;
	b->layer = layers_find(l->bs->layers, b->row.disk);
	b->next = layers_find(l->bs->layers, b->row.disk_next);
	if (b->next)
		layer_ref(b->next);
	if (b->layer)
		fetch_old_disk(b);
	/* Without its disk it is no box; that it has a row at all is nobody's work but that of somebody at
	 * the database. */
	l->failed |= !b->layer || !layer_ref(b->layer);
}

static int load(sqlite3 *db, void *arg, struct err *e)
{
	struct loading *l = arg;
	int r = box_row_each(db, take_row, l, e);
	return r < 0 || l->failed ? r : snapshots_load(db, l->bs, e);
}

int boxes_create(struct boxes **out, const struct boxes_config *c, struct err *e)
{
	struct boxes *bs = calloc(1, sizeof *bs);
	if (!bs)
		return err_sys(e, "boxes", ENOMEM, "boxes");
	bs->refs = 1;
	TAILQ_INIT(&bs->list);
	LIST_INIT(&bs->tallies);
	struct loading loading = {.bs = bs};
	int r = copy_config(&bs->config, c);
	if (r < 0)
		err_sys(e, "boxes", -r, "boxes");
	if (r == 0)
		r = make_dirs(&bs->config, e);
	if (r == 0)
		r = layers_create(&bs->layers, c->loop, c->store, bs->config.state_dir, e);
	/* store_run waits for the store's thread: to make boxes there, of this loop, is as good as to make
	 * them here. */
	if (r == 0)
		r = store_run(c->store, load, &loading, e);
	if (r == 0 && loading.failed)
		r = err_set(e, "boxes", EINVAL,
			    "boxes cannot be loaded: no memory, or rows without their disks");
	if (r == 0)
		layers_settle(bs->layers);
	if (r == 0 && strcmp(c->accel, "auto") != 0) {
		bs->accel_result = strcmp(c->accel, "kvm") == 0 ? "kvm" : "tcg";
	} else if (r == 0) {
		struct accel_config a = {.loop = c->loop,
					 .kernel = bs->config.kernel,
					 .cache_dir = c->host_dir,
					 .done = on_accel,
					 .arg = bs};
		r = accel_probe(&bs->accel, &a, e);
	}
	if (r < 0) {
		boxes_unref(bs);
		return r;
	}
	uv_timer_init(c->loop, &bs->attention);
	bs->attention.data = bs;
	boxes_ref(bs);
	*out = bs;
	return 0;
}

static void on_settled(void *arg)
{
	struct boxes *bs = arg;
	if (--bs->adopting > 0)
		return;
	merge_kick(bs);
	boxes_attend(bs);
	bs->adopted(bs->adopted_arg);
}

void boxes_adopt(struct boxes *bs, void (*done)(void *arg), void *arg)
{
	struct box *b, *next;
	boxes_sweep(bs);
	lowers_sweep(bs);
	bs->adopted = done;
	bs->adopted_arg = arg;
	bs->adopting = 1; /* this loop itself: some settle at once */
	for (b = TAILQ_FIRST(&bs->list); b; b = next) {
		next = TAILQ_NEXT(b, entry);
		if (!state_has_vm(b->row.life.status))
			continue;
		bs->adopting++;
		box_take_up(b, on_settled, bs);
	}
	on_settled(bs);
}

static void on_attention_closed(uv_handle_t *h)
{
	boxes_unref(h->data);
}

void boxes_destroy(struct boxes *bs)
{
	struct box *b;
	if (!bs)
		return;
	bs->closing = true;
	accel_destroy(bs->accel);
	merge_abandon(bs);
	uv_close((uv_handle_t *)&bs->attention, on_attention_closed);
	TAILQ_FOREACH (b, &bs->list, entry) {
		box_abandon(b);
		box_release(b);
	}
	boxes_unref(bs);
}

/* ---- in and out ------------------------------------------------------------------------------------ */

struct box *boxes_find(struct boxes *bs, const char *prefix, const char *id_or_name)
{
	struct box *b, *named = NULL;
	TAILQ_FOREACH (b, &bs->list, entry) {
		if (!b->listed || strcmp(b->row.prefix, prefix) != 0)
			continue;
		if (strcmp(b->row.id, id_or_name) == 0)
			return b;
		if (b->row.name && strcmp(b->row.name, id_or_name) == 0)
			named = b;
	}
	return named;
}

struct box *boxes_find_id(struct boxes *bs, const char *id)
{
	struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry)
		if (b->listed && strcmp(b->row.id, id) == 0)
			return b;
	return NULL;
}

void boxes_get_metrics(struct boxes *bs, const char *prefix, struct boxes_metrics *out)
{
	struct tally *t = tally_get(&bs->tallies, prefix);
	const struct box *b;
	*out = t ? t->counts : (struct boxes_metrics){0};
	TAILQ_FOREACH (b, &bs->list, entry)
		out->running +=
			b->listed && b->told.status == BOX_RUNNING && strcmp(b->row.prefix, prefix) == 0;
}

unsigned boxes_count(const struct boxes *bs, const char *prefix)
{
	unsigned n = 0;
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry)
		n += strcmp(b->row.prefix, prefix) == 0;
	return n;
}

unsigned boxes_count_image(const struct boxes *bs, const char *prefix, const char *digest)
{
	unsigned n = 0;
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry) {
		const char *own = b->row.settings.image_digest;
		n += own && strcmp(own, digest) == 0 && strcmp(b->row.prefix, prefix) == 0;
	}
	return n;
}

void boxes_each(struct boxes *bs, const char *prefix, void (*fn)(void *arg, struct box *b), void *arg)
{
	struct box *b, *next;
	for (b = TAILQ_FIRST(&bs->list); b; b = next) {
		next = TAILQ_NEXT(b, entry);
		if (b->listed && strcmp(b->row.prefix, prefix) == 0)
			fn(arg, b);
	}
}

struct addition {
	struct box *box;
	box_done_fn done;
	void *arg;
};

static int insert_row(sqlite3 *db, void *arg, struct err *e)
{
	const struct addition *a = arg;
	const struct box *b = a->box;
	int r = layer_insert(db, b->row.disk, b->layer->below ? b->layer->below->id : "", b->layer->written,
			     e);
	return r < 0 ? r : box_row_insert(db, &b->row, e);
}

static void on_inserted(void *arg, int status, const struct err *e)
{
	struct addition *a = arg;
	struct box *b = a->box;
	struct boxes *bs = b->boxes;
	struct failure f;
	if (bs->closing) {
		box_failure(&f, FAIL_UNAVAILABLE, "tenond is ending");
		a->done(a->arg, NULL, &f);
	} else if (status < 0) {
		if (status == -EEXIST)
			box_failure(&f, FAIL_EXISTS, "a box named %s exists", b->row.name);
		else
			box_store_failure(&f, status, e);
		a->done(a->arg, NULL, &f);
		layer_unref(steal_ptr(&b->layer));
		box_destroy(b);
	} else {
		struct tally *t = tally_get(&bs->tallies, b->row.prefix);
		if (t)
			t->counts.created++;
		b->listed = true;
		a->done(a->arg, b, NULL);
	}
	free(a);
	boxes_unref(bs);
}

void boxes_insert(struct box *b, box_done_fn done, void *arg)
{
	struct addition *a = malloc(sizeof *a);
	if (!a)
		abort(); /* as in store_submit */
	*a = (struct addition){.box = b, .done = done, .arg = arg};
	strcpy(b->row.disk, b->layer->id);
	boxes_ref(b->boxes);
	store_submit(b->boxes->config.store, insert_row, on_inserted, a);
}

void boxes_disks_free(struct boxes *bs)
{
	struct box *b, *next;
	for (b = TAILQ_FIRST(&bs->list); b; b = next) {
		next = TAILQ_NEXT(b, entry);
		box_disk_free(b);
	}
}

bool boxes_is_taken(const struct boxes *bs, const char *prefix, const char *name)
{
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry)
		if (strcmp(b->row.prefix, prefix) == 0 &&
		    ((b->row.name && strcmp(b->row.name, name) == 0) || strcmp(b->row.id, name) == 0))
			return true;
	return false;
}

bool boxes_check(const struct boxes *bs, const struct box_spec *spec, struct failure *f)
{
	if (spec->memory_mib && spec->memory_mib < BOX_MEMORY_MIN_MIB)
		box_failure(f, FAIL_INVALID, "memory_mib: at least %d", BOX_MEMORY_MIN_MIB);
	else if (spec->name && boxes_is_taken(bs, spec->prefix, spec->name))
		box_failure(f, FAIL_EXISTS, "a box named %s exists", spec->name);
	else
		return true;
	return false;
}

void boxes_add(struct boxes *bs, const struct box_spec *spec, box_done_fn done, void *arg)
{
	boxes_add_with(bs, spec, layers_make(bs->layers, NULL), done, arg);
}

void boxes_add_with(struct boxes *bs, const struct box_spec *spec, struct layer *disk, box_done_fn done,
		    void *arg)
{
	struct failure f;
	struct box_row row;
	if (!boxes_check(bs, spec, &f)) {
		layer_unref(disk);
		done(arg, NULL, &f);
		return;
	}
	int r = box_row_init(&row, spec);
	struct box *b = NULL;
	box_failure(&f, FAIL_EXHAUSTED, "no memory");
	if (r == 0 && disk && box_volumes_resolve(bs, &row, &f))
		b = box_create(bs, &row);
	else
		box_row_finish(&row);
	if (!b) {
		layer_unref(disk);
		done(arg, NULL, &f);
		return;
	}
	b->layer = disk;
	boxes_insert(b, done, arg);
}

struct layers *boxes_layers(struct boxes *bs)
{
	return bs->layers;
}

void boxes_layer_read(struct boxes *bs, struct layer *l)
{
	l->readers--;
	layer_unref(l);
	merge_kick(bs);
}
