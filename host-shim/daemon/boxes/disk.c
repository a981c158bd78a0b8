#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "console.h"
#include "process.h"
#include "proto/cleanup.h"

#define DEADLINE_MS 60000

struct disk {
	uv_loop_t *loop;
	char *template, *part, *path;
	char size[16];
	int step;
	struct process *process;
	uv_idle_t soon; /* done is never called from within disk_ensure */
	disk_done_fn done;
	void *arg;
};

static void on_closed(uv_handle_t *h)
{
	struct disk *d = h->data;
	free(d->template);
	free(d->part);
	free(d->path);
	free(d);
}

void disk_cancel(struct disk *d)
{
	if (!d)
		return;
	process_destroy(d->process);
	uv_close((uv_handle_t *)&d->soon, on_closed);
}

static void finish(struct disk *d, const struct err *e)
{
	disk_done_fn done = d->done;
	void *arg = d->arg;
	disk_cancel(d);
	done(arg, e);
}

static void next_step(struct disk *d);

static void on_exited(void *arg, int status, const char *output)
{
	struct disk *d = arg;
	process_destroy(steal_ptr(&d->process));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		d->step++;
		next_step(d);
		return;
	}
	struct err e;
	char said[120];
	console_clean(said, sizeof said, output, strlen(output));
	if (WIFSIGNALED(status))
		err_set(&e, "disk", ETIMEDOUT, "qemu-img was killed after %d s", DEADLINE_MS / 1000);
	else
		err_set(&e, "disk", EIO, "qemu-img: %s", *said ? said : "cannot be run");
	finish(d, &e);
}

static void next_step(struct disk *d)
{
	const char *const fill[] = {"qemu-img", "convert", "-O", "qcow2", d->template, d->part, NULL};
	const char *const grow[] = {"qemu-img", "resize", "-q", d->part, d->size, NULL};
	struct err e = {0};
	if (d->step == 2) {
		if (rename(d->part, d->path) < 0)
			err_sys(&e, "disk", errno, "%s", d->path);
		finish(d, e.errnum ? &e : NULL);
		return;
	}
	struct process_config p = {.loop = d->loop, .argv = d->step == 0 ? fill : grow, .capture = true, .inherit = -1,
				   .deadline_ms = DEADLINE_MS, .arg = d, .exited = on_exited};
	if (process_spawn(&d->process, &p, &e) < 0)
		finish(d, &e);
}

static void on_soon(uv_idle_t *idle)
{
	struct disk *d = idle->data;
	uv_idle_stop(idle);
	if (access(d->path, F_OK) == 0)
		finish(d, NULL);
	else
		next_step(d);
}

int disk_ensure(struct disk **out, uv_loop_t *loop, const char *template, const char *state_dir, unsigned size_gb,
		disk_done_fn done, void *arg, struct err *e)
{
	struct disk *d = calloc(1, sizeof *d);
	if (!d)
		return err_sys(e, "disk", ENOMEM, "disk");
	*d = (struct disk){.loop = loop, .done = done, .arg = arg};
	snprintf(d->size, sizeof d->size, "%uG", size_gb);
	uv_idle_init(loop, &d->soon);
	d->soon.data = d;
	d->template = strdup(template);
	if (asprintf(&d->path, "%s/upper.qcow2", state_dir) < 0)
		d->path = NULL;
	if (asprintf(&d->part, "%s/upper.qcow2.part", state_dir) < 0)
		d->part = NULL;
	if (!d->template || !d->path || !d->part) {
		disk_cancel(d);
		return err_sys(e, "disk", ENOMEM, "disk");
	}
	uv_idle_start(&d->soon, on_soon);
	*out = d;
	return 0;
}
