/* Export: the disk is cut, its layers become one sparse file, the thread makes the archive of that. The box
 * goes on as soon as its disk is cut. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-shim/daemon/disks/img.h"
#include "internal.h"
#include "manifest.h"
#include "pack.h"
#include "proto/cleanup.h"
#include "unpack.h"

#define BUFFER 65536

struct archive_out {
	struct archives *as;
	bool opening; /* archive_out has not returned: its caller asks next, and is not to be woken */
	bool cutting, closed, begun, ended, failed;
	struct failure failure;
	struct layer *layer;
	struct img *img;
	char folder[ARCHIVE_PATH_MAX];
	struct pack pack;
	struct err err; /* the thread's */
	struct job *job;
	uint8_t buf[BUFFER];
	size_t at, len;
	void (*wake)(void *arg);
	void *arg;
};

static void free_out(struct archive_out *o)
{
	struct archives *as = o->as;
	bool begun = o->begun;
	if (o->layer)
		boxes_layer_read(as->config.boxes, steal_ptr(&o->layer));
	archives_remove_folder(o->folder);
	job_destroy(o->job);
	close_fd(&o->pack.disk);
	close_fd(&o->pack.image);
	json_decref(o->pack.manifest);
	free(o);
	if (begun)
		archives_end(as);
}

static void wake(struct archive_out *o)
{
	if (o->closed)
		free_out(o);
	else if (!o->opening)
		o->wake(o->arg);
}

static void fail(struct archive_out *o, const struct failure *f)
{
	o->failed = true;
	o->failure = *f;
	wake(o);
}

static void fail_err(struct archive_out *o, const struct err *e)
{
	struct failure f;
	archive_failure(&f, e);
	fail(o, &f);
}

/* ---- the thread ---- */

static void work(void *arg, int fd, const atomic_bool *cancelled)
{
	struct archive_out *o = arg;
	o->pack.cancelled = cancelled;
	pack_write(&o->pack, fd, &o->err);
}

static void on_ready(void *arg)
{
	struct archive_out *o = arg;
	o->wake(o->arg);
}

static void on_ended(void *arg)
{
	struct archive_out *o = arg;
	o->ended = true;
	wake(o);
}

/* ---- what comes before ---- */

static void on_flat(void *arg, const struct err *e)
{
	struct archive_out *o = arg;
	struct err own = {0};
	char path[ARCHIVE_PATH_MAX + 16];
	o->img = NULL;
	boxes_layer_read(o->as->config.boxes, steal_ptr(&o->layer));
	snprintf(path, sizeof path, "%s/" UNPACK_DISK, o->folder);
	if (e) {
		fail_err(o, e);
		return;
	}
	o->pack.disk = open(path, O_RDONLY | O_CLOEXEC);
	if (o->pack.disk < 0)
		err_sys(&own, "archive", errno, "%s", path);
	/* Open it needs no name, and without one nothing can stay behind. */
	archives_remove_folder(o->folder);
	o->folder[0] = '\0';
	struct job_config c = {.loop = o->as->config.loop,
			       .to_loop = true,
			       .work = work,
			       .ready = on_ready,
			       .ended = on_ended,
			       .arg = o};
	if (own.errnum || job_start(&o->job, &c, &own) < 0)
		fail_err(o, &own);
	else if (!o->opening)
		o->wake(o->arg);
}

static void on_cut(void *arg, struct box *b, struct layer *frozen, uint64_t pause_us, const struct failure *f)
{
	struct archive_out *o = arg;
	struct err e = {0};
	char from[LAYERS_PATH_MAX], to[ARCHIVE_PATH_MAX + 16];
	(void)b;
	(void)pause_us;
	o->cutting = false;
	if (f) {
		fail(o, f);
		return;
	}
	o->layer = frozen;
	frozen->readers++;
	if (o->closed) {
		free_out(o);
		return;
	}
	if (archives_make_folder(o->as, o->folder, &e) < 0) {
		fail_err(o, &e);
		return;
	}
	layer_path(frozen, from);
	snprintf(to, sizeof to, "%s/" UNPACK_DISK, o->folder);
	const char *const flatten[] = {"qemu-img", "convert", "-f", "qcow2", "-O", "raw", from, to, NULL};
	struct img_config c = {.loop = o->as->config.loop,
			       .steps = {flatten},
			       .deadline_ms = ARCHIVE_CONVERT_MS,
			       .arg = o,
			       .done = on_flat};
	if (img_run(&o->img, &c, &e) < 0)
		fail_err(o, &e);
}

static void begin(struct archive_out *o, struct box *b)
{
	struct box_info i;
	struct failure f;
	struct err e;
	char image[BOX_PATH_MAX];
	o->begun = archives_begin(o->as, &f);
	if (!o->begun) {
		fail(o, &f);
		return;
	}
	box_get_info(b, &i);
	box_lower_path(b, image);
	o->pack.manifest = archive_manifest_of(&i);
	o->pack.image = open(image, O_RDONLY | O_CLOEXEC);
	if (!o->pack.manifest || o->pack.image < 0) {
		err_sys(&e, "archive", o->pack.manifest ? errno : ENOMEM, "%s", image);
		fail_err(o, &e);
		return;
	}
	o->cutting = true;
	box_cut(b, on_cut, o);
}

/* ---- verbs ---- */

struct archive_out *archive_out(struct archives *as, struct box *b, void (*wake_fn)(void *arg), void *arg)
{
	struct archive_out *o = calloc(1, sizeof *o);
	if (!o)
		abort(); /* as in store_submit: there is nothing left to tell it with */
	o->as = as;
	o->wake = wake_fn;
	o->arg = arg;
	o->pack.disk = o->pack.image = -1;
	o->opening = true;
	begin(o, b);
	o->opening = false;
	return o;
}

/* 0 without bytes now, negative at the end. */
static ssize_t fill(struct archive_out *o)
{
	ssize_t n = job_read(o->job, o->buf, sizeof o->buf);
	if (n == -EAGAIN)
		return 0;
	o->at = 0;
	o->len = n > 0 ? (size_t)n : 0;
	return n > 0 ? n : -1;
}

enum archive_state archive_out_read(struct archive_out *o, void *buf, size_t max, size_t *len,
				    struct failure *f)
{
	ssize_t n = 1;
	if (!o->failed && !o->job)
		return ARCHIVE_WAIT;
	if (!o->failed && o->at == o->len)
		n = fill(o);
	if (!o->failed && n > 0) {
		*len = o->len - o->at < max ? o->len - o->at : max;
		memcpy(buf, o->buf + o->at, *len);
		o->at += *len;
		return ARCHIVE_DATA;
	}
	/* The pipe has ended; what the thread says of it comes in a moment. */
	if (!o->failed && (n == 0 || !o->ended))
		return ARCHIVE_WAIT;
	if (!o->failed && !o->err.errnum)
		return ARCHIVE_END;
	if (!o->failed)
		archive_failure(&o->failure, &o->err);
	o->failed = true;
	*f = o->failure;
	return ARCHIVE_FAILED;
}

void archive_out_close(struct archive_out *o)
{
	if (!o)
		return;
	o->closed = true;
	img_cancel(steal_ptr(&o->img));
	if (o->job && !o->ended)
		job_cancel(o->job);
	else if (!o->cutting)
		free_out(o);
}
