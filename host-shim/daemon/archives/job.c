#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define PIPE_SIZE (1 << 20) /* fewer turns of the loop; a wish, the system may give less */

struct job {
	struct job_config config;
	pthread_t thread;
	int fd, their_fd;
	uv_poll_t poll;
	uv_async_t async;
	bool polling, closed;
	int handles;
	atomic_bool cancelled;
};

static void *run(void *arg)
{
	struct job *j = arg;
	j->config.work(j->config.arg, j->their_fd, &j->cancelled);
	close_fd(&j->their_fd);
	uv_async_send(&j->async);
	return NULL;
}

static void on_ended(uv_async_t *async)
{
	struct job *j = async->data;
	pthread_join(j->thread, NULL);
	j->config.ended(j->config.arg);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct job *j = poll->data;
	(void)status;
	(void)events;
	uv_poll_stop(poll);
	j->polling = false;
	j->config.ready(j->config.arg);
}

static void on_closed(uv_handle_t *h)
{
	struct job *j = h->data;
	if (h == (uv_handle_t *)&j->poll)
		close_fd(&j->fd);
	if (--j->handles == 0)
		free(j);
}

void job_close(struct job *j)
{
	if (j->closed)
		return;
	j->closed = true;
	uv_poll_stop(&j->poll);
	/* Its number must not be another's while libuv knows it; the thread need not wait for that. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0)
		dup3(null, j->fd, O_CLOEXEC);
	close_fd(&null);
	uv_close((uv_handle_t *)&j->poll, on_closed);
}

void job_cancel(struct job *j)
{
	atomic_store(&j->cancelled, true);
	job_close(j);
}

void job_destroy(struct job *j)
{
	if (!j)
		return;
	job_close(j);
	uv_close((uv_handle_t *)&j->async, on_closed);
}

static void wait_ready(struct job *j)
{
	if (j->polling)
		return;
	j->polling = true;
	uv_poll_start(&j->poll, (j->config.to_loop ? UV_READABLE : UV_WRITABLE) | UV_DISCONNECT, on_ready);
}

ssize_t job_read(struct job *j, void *buf, size_t max)
{
	ssize_t n;
	do
		n = j->closed ? 0 : read(j->fd, buf, max);
	while (n < 0 && errno == EINTR);
	int r = n < 0 ? -errno : 0;
	if (r == -EAGAIN)
		wait_ready(j);
	return r < 0 ? r : n;
}

ssize_t job_write(struct job *j, const void *buf, size_t len)
{
	ssize_t n;
	do
		n = j->closed ? (errno = EPIPE, -1) : write(j->fd, buf, len);
	while (n < 0 && errno == EINTR);
	int r = n < 0 ? -errno : 0;
	if (r == -EAGAIN)
		wait_ready(j);
	return r < 0 ? r : n;
}

int job_start(struct job **out, const struct job_config *c, struct err *e)
{
	int ends[2];
	struct job *j = calloc(1, sizeof *j);
	if (!j || pipe2(ends, O_CLOEXEC) < 0) {
		free(j);
		return err_sys(e, "archive", errno, "a pipe");
	}
	fcntl(ends[0], F_SETPIPE_SZ, PIPE_SIZE);
	j->config = *c;
	j->fd = ends[c->to_loop ? 0 : 1];
	j->their_fd = ends[c->to_loop ? 1 : 0];
	fcntl(j->fd, F_SETFL, O_NONBLOCK);
	uv_async_init(c->loop, &j->async, on_ended);
	uv_poll_init(c->loop, &j->poll, j->fd);
	j->async.data = j->poll.data = j;
	j->handles = 2;
	int r = pthread_create(&j->thread, NULL, run, j);
	if (r != 0) {
		close_fd(&j->their_fd);
		job_destroy(j);
		return err_sys(e, "archive", r, "a thread");
	}
	*out = j;
	return 0;
}
