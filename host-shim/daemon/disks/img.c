#include "img.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "host-shim/daemon/boxes/console.h"
#include "host-shim/daemon/boxes/process.h"
#include "host-shim/daemon/boxes/strings.h"
#include "proto/cleanup.h"

struct img {
	uv_loop_t *loop;
	char **steps[IMG_STEPS];
	char *part, *final;
	unsigned deadline_ms, step;
	struct process *process;
	uv_idle_t soon; /* done is never called from within img_run */
	uv_work_t settle;
	bool settling, cancelled, stopped;
	struct err err;
	void *arg;
	void (*done)(void *arg, const struct err *e);
};

static void on_closed(uv_handle_t *h)
{
	struct img *i = h->data;
	for (unsigned s = 0; s < IMG_STEPS; s++)
		strings_free(i->steps[s]);
	free(i->part);
	free(i->final);
	free(i);
}

static void end(struct img *i)
{
	process_destroy(steal_ptr(&i->process));
	if (i->part && i->err.errnum)
		unlink(i->part);
	uv_close((uv_handle_t *)&i->soon, on_closed);
}

void img_cancel(struct img *i)
{
	if (!i)
		return;
	i->cancelled = true;
	if (i->settling)
		return; /* what the thread has begun it ends */
	err_set(&i->err, "qemu-img", ECANCELED, "cancelled");
	end(i);
}

void img_stop(struct img *i)
{
	i->stopped = true;
	if (i->process)
		process_kill(i->process, SIGKILL);
}

static void finish(struct img *i)
{
	void (*done)(void *, const struct err *) = i->done;
	void *arg = i->arg;
	struct err e = i->err;
	end(i);
	done(arg, e.errnum ? &e : NULL);
}

/* ---- the end: what was made gets its name ---------------------------------------------------------- */

static int sync_path(const char *path, int flags, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	if (fd < 0 || fsync(fd) < 0)
		return err_sys(e, "disk", errno, "%s", path);
	return 0;
}

/* On a thread of libuv's pool. */
static void settle(uv_work_t *w)
{
	struct img *i = w->data;
	_cleanup_free_ char *folder = strdup(i->final);
	if (!folder) {
		err_sys(&i->err, "disk", ENOMEM, "disk");
		return;
	}
	if (sync_path(i->part, 0, &i->err) < 0)
		return;
	if (rename(i->part, i->final) < 0) {
		err_sys(&i->err, "disk", errno, "%s", i->final);
		return;
	}
	sync_path(dirname(folder), O_DIRECTORY, &i->err);
}

static void on_settled(uv_work_t *w, int status)
{
	struct img *i = w->data;
	i->settling = false;
	if (status < 0 && !i->err.errnum)
		err_sys(&i->err, "disk", -status, "a thread");
	if (i->cancelled)
		end(i);
	else
		finish(i);
}

/* ---- the steps ------------------------------------------------------------------------------------- */

static void next_step(struct img *i);

static void on_exited(void *arg, int status, const char *output)
{
	struct img *i = arg;
	process_destroy(steal_ptr(&i->process));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		i->step++;
		next_step(i);
		return;
	}
	char said[120];
	console_clean(said, sizeof said, output, strlen(output));
	if (i->stopped)
		err_set(&i->err, "disk", ECANCELED, "qemu-img was stopped");
	else if (WIFSIGNALED(status))
		err_set(&i->err, "disk", ETIMEDOUT,
			"qemu-img was killed, by its deadline of %u s or by somebody", i->deadline_ms / 1000);
	else
		err_set(&i->err, "disk", strstr(said, strerror(ENOSPC)) ? ENOSPC : EIO, "qemu-img: %s",
			*said ? said : "cannot be run");
	finish(i);
}

static void next_step(struct img *i)
{
	if (i->stopped) {
		err_set(&i->err, "disk", ECANCELED, "qemu-img was stopped");
		finish(i);
		return;
	}
	if (i->step < IMG_STEPS && i->steps[i->step]) {
		struct process_config p = {.loop = i->loop,
					   .argv = (const char *const *)i->steps[i->step],
					   .capture = true,
					   .inherit = -1,
					   .deadline_ms = i->deadline_ms,
					   .arg = i,
					   .exited = on_exited};
		if (process_spawn(&i->process, &p, &i->err) < 0)
			finish(i);
		return;
	}
	if (!i->final) {
		finish(i);
		return;
	}
	i->settle.data = i;
	i->settling = true;
	uv_queue_work(i->loop, &i->settle, settle, on_settled);
}

static void on_soon(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	next_step(idle->data);
}

int img_run(struct img **out, const struct img_config *c, struct err *e)
{
	struct img *i = calloc(1, sizeof *i);
	if (!i)
		return err_sys(e, "disk", ENOMEM, "disk");
	*i = (struct img){.loop = c->loop, .deadline_ms = c->deadline_ms, .arg = c->arg, .done = c->done};
	uv_idle_init(c->loop, &i->soon);
	i->soon.data = i;
	bool whole = true;
	for (unsigned s = 0; s < IMG_STEPS && c->steps[s]; s++)
		whole &= (i->steps[s] = strings_copy(c->steps[s])) != NULL;
	if (c->part)
		whole &= (i->part = strdup(c->part)) && (i->final = strdup(c->final));
	if (!whole) {
		uv_close((uv_handle_t *)&i->soon, on_closed);
		return err_sys(e, "disk", ENOMEM, "disk");
	}
	uv_idle_start(&i->soon, on_soon);
	*out = i;
	return 0;
}
