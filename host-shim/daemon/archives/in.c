/* Import: the thread takes the archive apart into a raw disk and the image, and believes nothing of it; the
 * disk becomes a layer of its own, the box is made of both. Until that is committed nothing of it can be
 * seen. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "host-shim/daemon/boxes/lower.h"
#include "host-shim/daemon/disks/img.h"
#include "host-shim/daemon/images/digest.h"
#include "internal.h"
#include "proto/cleanup.h"
#include "unpack.h"

struct archive_in {
	struct archives *as;
	char *prefix, *name;
	bool opening, begun, closed, failed, adding;
	struct failure failure;
	char folder[ARCHIVE_PATH_MAX], base[BOX_PATH_MAX];
	struct unpack unpack;
	bool built_in; /* the image is the one that this host has anyway */
	bool pulled;   /* or the one that it has under the digest that the archive names */
	struct job *job;
	struct img *img;
	struct layer *layer;
	struct box *box;
	bool (*may_add)(void *arg, const char *prefix, struct failure *f);
	void (*wake)(void *arg);
	void *arg;
};

static void free_in(struct archive_in *i)
{
	struct archives *as = i->as;
	bool begun = i->begun;
	layer_unref(i->layer);
	archives_remove_folder(i->folder);
	job_destroy(i->job);
	close_fd(&i->unpack.folder);
	archive_manifest_finish(&i->unpack.manifest);
	free(i->prefix);
	free(i->name);
	free(i);
	if (begun)
		archives_end(as);
}

static void wake(struct archive_in *i)
{
	if (i->closed)
		free_in(i);
	else if (!i->opening)
		i->wake(i->arg);
}

static void fail(struct archive_in *i, const struct failure *f)
{
	i->failed = true;
	i->failure = *f;
	wake(i);
}

static void fail_err(struct archive_in *i, const struct err *e)
{
	struct failure f;
	archive_failure(&f, e);
	fail(i, &f);
}

/* ---- the box ---- */

static void on_added(void *arg, struct box *b, const struct failure *f)
{
	struct archive_in *i = arg;
	i->adding = false;
	if (f) {
		lowers_sweep(i->as->config.boxes);
		fail(i, f);
		return;
	}
	i->box = b;
	wake(i);
}

/* Of this moment on the box holds the image: between keeping it and that nothing else runs. */
static int keep_image(struct archive_in *i, struct err *e)
{
	char from[ARCHIVE_PATH_MAX + 32];
	struct image_info here;
	const char *digest = i->unpack.manifest.image_digest;
	if (i->built_in)
		return 0;
	/* The name alone would be a claim; and it must be this tenant's, since only then it stays. */
	if (i->pulled && images_find(i->as->config.images, i->prefix, digest, &here, NULL) == 0) {
		i->unpack.manifest.settings.image_digest = strdup(digest);
		return i->unpack.manifest.settings.image_digest ? 0 : err_sys(e, "archive", ENOMEM, "image");
	}
	snprintf(from, sizeof from, "%s/" ARCHIVE_IMAGE, i->folder);
	return lower_keep(i->as->config.boxes, from, i->unpack.manifest.image.sha256,
			  &i->unpack.manifest.settings.image_digest, e);
}

static void add_box(struct archive_in *i)
{
	struct box_spec spec = i->unpack.manifest.spec;
	struct failure f;
	struct err e;
	if (!i->may_add(i->arg, i->prefix, &f)) {
		fail(i, &f);
		return;
	}
	spec.prefix = i->prefix;
	if (i->name)
		spec.name = i->name;
	else if (spec.name && boxes_find(i->as->config.boxes, i->prefix, spec.name))
		spec.name = NULL;
	if (keep_image(i, &e) < 0) {
		fail_err(i, &e);
		return;
	}
	i->adding = true;
	boxes_add_with(i->as->config.boxes, &spec, steal_ptr(&i->layer), on_added, i);
}

static void on_converted(void *arg, const struct err *e)
{
	struct archive_in *i = arg;
	i->img = NULL;
	if (e)
		fail_err(i, e);
	else
		add_box(i);
}

static void convert(struct archive_in *i)
{
	char from[ARCHIVE_PATH_MAX + 16], part[LAYERS_PATH_MAX], final[LAYERS_PATH_MAX];
	struct err e = {0};
	i->layer = layers_make(boxes_layers(i->as->config.boxes), NULL);
	if (!i->layer) {
		err_sys(&e, "archive", ENOMEM, "a layer");
		fail_err(i, &e);
		return;
	}
	i->layer->written = true;
	layer_part(i->layer, part);
	layer_path(i->layer, final);
	snprintf(from, sizeof from, "%s/" UNPACK_DISK, i->folder);
	/* A raw file has no header that qemu-img could believe. */
	const char *const fill[] = {"qemu-img", "convert", "-f", "raw", "-O", "qcow2", from, part, NULL};
	struct img_config c = {.loop = i->as->config.loop,
			       .steps = {fill},
			       .part = part,
			       .final = final,
			       .deadline_ms = ARCHIVE_CONVERT_MS,
			       .arg = i,
			       .done = on_converted};
	if (img_run(&i->img, &c, &e) < 0)
		fail_err(i, &e);
}

/* ---- the thread ---- */

static bool is_digest_of(const char *sha256, const char *path)
{
	uint8_t buf[65536];
	char found[65];
	struct digest d;
	ssize_t n;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	digest_init(&d);
	while (fd >= 0 && (n = read(fd, buf, sizeof buf)) > 0)
		digest_add(&d, buf, (size_t)n);
	digest_end(&d, found);
	return strcmp(found, sha256) == 0;
}

static void work(void *arg, int fd, const atomic_bool *cancelled)
{
	struct archive_in *i = arg;
	char path[ARCHIVE_PATH_MAX + 128];
	const struct archive_manifest *m = &i->unpack.manifest;
	i->unpack.cancelled = cancelled;
	if (!unpack_read(&i->unpack, fd))
		return;
	i->built_in = !m->image_digest && is_digest_of(m->image.sha256, i->base);
	if (!m->image_digest || !digest_is_valid(m->image_digest))
		return;
	snprintf(path, sizeof path, "%s/../images/%s.squashfs", i->as->folder, digest_hex(m->image_digest));
	i->pulled = is_digest_of(m->image.sha256, path);
}

static void on_ready(void *arg)
{
	struct archive_in *i = arg;
	wake(i);
}

static void on_ended(void *arg)
{
	struct archive_in *i = arg;
	job_destroy(steal_ptr(&i->job));
	if (i->closed)
		free_in(i);
	else if (i->unpack.failure.message[0])
		fail(i, &i->unpack.failure);
	else
		convert(i);
}

/* ---- verbs ---- */

static void begin(struct archive_in *i, const char *prefix, const char *name)
{
	struct failure f;
	struct err e = {0};
	i->begun = archives_begin(i->as, &f);
	if (!i->begun) {
		fail(i, &f);
		return;
	}
	i->prefix = strdup(prefix);
	i->name = name ? strdup(name) : NULL;
	lower_built_in(i->as->config.boxes, i->base);
	if (!i->prefix || (name && !i->name))
		err_sys(&e, "archive", ENOMEM, "import");
	else if (archives_make_folder(i->as, i->folder, &e) == 0 &&
		 (i->unpack.folder = open(i->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		err_sys(&e, "archive", errno, "%s", i->folder);
	struct job_config c = {
		.loop = i->as->config.loop, .work = work, .ready = on_ready, .ended = on_ended, .arg = i};
	if (e.errnum || job_start(&i->job, &c, &e) < 0)
		fail_err(i, &e);
}

struct archive_in *archive_in(struct archives *as, const char *prefix, const char *name,
			      bool (*may_add)(void *arg, const char *prefix, struct failure *f),
			      void (*wake_fn)(void *arg), void *arg)
{
	struct archive_in *i = calloc(1, sizeof *i);
	if (!i)
		abort(); /* as in store_submit */
	i->as = as;
	i->may_add = may_add;
	i->wake = wake_fn;
	i->arg = arg;
	i->unpack.folder = -1;
	i->opening = true;
	begin(i, prefix, name);
	i->opening = false;
	return i;
}

size_t archive_in_write(struct archive_in *i, const void *bytes, size_t n)
{
	size_t taken = 0;
	while (i->job && taken < n) {
		ssize_t r = job_write(i->job, (const char *)bytes + taken, n - taken);
		if (r == -EAGAIN)
			return taken;
		/* The thread has seen enough; why it will say. */
		if (r < 0)
			break;
		taken += (size_t)r;
	}
	return n;
}

void archive_in_write_end(struct archive_in *i)
{
	if (i->job)
		job_close(i->job);
}

enum archive_state archive_in_result(struct archive_in *i, struct box **box, struct failure *f)
{
	*box = i->box;
	*f = i->failure;
	return i->failed ? ARCHIVE_FAILED : i->box ? ARCHIVE_END : ARCHIVE_WAIT;
}

void archive_in_close(struct archive_in *i)
{
	if (!i)
		return;
	i->closed = true;
	img_cancel(steal_ptr(&i->img));
	if (i->job)
		job_cancel(i->job);
	else if (!i->adding)
		free_in(i);
}
