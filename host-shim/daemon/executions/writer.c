#include "host-shim/daemon/executions/writer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

STAILQ_HEAD(job_list, writer_job);

struct writer {
	uv_thread_t thread;
	uv_async_t wake_loop;

	uv_mutex_t lock;
	uv_cond_t wake_thread;
	struct job_list todo, finished;
	bool stopping;
};

static void work(void *arg)
{
	struct writer *w = arg;
	uv_mutex_lock(&w->lock);
	for (;;) {
		struct writer_job *job = STAILQ_FIRST(&w->todo);
		if (!job) {
			if (w->stopping)
				break;
			uv_cond_wait(&w->wake_thread, &w->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&w->todo, link);
		uv_mutex_unlock(&w->lock);
		job->status = job->run(job);
		uv_mutex_lock(&w->lock);
		bool first = STAILQ_EMPTY(&w->finished);
		STAILQ_INSERT_TAIL(&w->finished, job, link);
		if (!first)
			continue;
		/* Without the lock, which the loop wants as soon as it wakes. */
		uv_mutex_unlock(&w->lock);
		uv_async_send(&w->wake_loop);
		uv_mutex_lock(&w->lock);
	}
	uv_mutex_unlock(&w->lock);
}

static void report(struct writer *w)
{
	struct job_list batch = STAILQ_HEAD_INITIALIZER(batch);
	uv_mutex_lock(&w->lock);
	STAILQ_CONCAT(&batch, &w->finished);
	uv_mutex_unlock(&w->lock);

	struct writer_job *job;
	while ((job = STAILQ_FIRST(&batch))) {
		STAILQ_REMOVE_HEAD(&batch, link);
		job->done(job, job->status);
	}
}

static void on_wake(uv_async_t *h)
{
	report(h->data);
}

static void on_closed(uv_handle_t *h)
{
	struct writer *w = h->data;
	uv_cond_destroy(&w->wake_thread);
	uv_mutex_destroy(&w->lock);
	free(w);
}

int writer_create(struct writer **out, uv_loop_t *loop, struct err *e)
{
	struct writer *w = calloc(1, sizeof *w);
	if (!w)
		return err_set(e, "writer", ENOMEM, "no memory for the log writer");
	STAILQ_INIT(&w->todo);
	STAILQ_INIT(&w->finished);
	w->wake_loop.data = w;
	uv_mutex_init(&w->lock);
	uv_cond_init(&w->wake_thread);
	uv_async_init(loop, &w->wake_loop, on_wake);
	int r = uv_thread_create(&w->thread, work, w);
	if (r < 0) {
		uv_close((uv_handle_t *)&w->wake_loop, on_closed);
		return err_sys(e, "writer", -r, "cannot start the log writer");
	}
	*out = w;
	return 0;
}

void writer_destroy(struct writer *w)
{
	if (!w)
		return;
	uv_mutex_lock(&w->lock);
	w->stopping = true;
	uv_cond_signal(&w->wake_thread);
	uv_mutex_unlock(&w->lock);
	uv_thread_join(&w->thread);
	/* What the last done functions submit has no thread to run on any more. */
	do {
		report(w);
		work(w);
	} while (!STAILQ_EMPTY(&w->finished));
	uv_close((uv_handle_t *)&w->wake_loop, on_closed);
}

void writer_submit(struct writer *w, struct writer_job *job)
{
	uv_mutex_lock(&w->lock);
	STAILQ_INSERT_TAIL(&w->todo, job, link);
	uv_mutex_unlock(&w->lock);
	uv_cond_signal(&w->wake_thread);
}
