#include "qmp.h"

#include "proto/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GREETING_MS 30000

static void settle(struct qmp_pending *p, const json_t *reply, const struct err *e)
{
	qmp_done_fn done = p->done;
	p->id = 0;
	p->done = NULL;
	loop_disarm(&p->deadline);
	if (done)
		done(p->ctx, reply, e);
}

static void close_monitor(struct qmp *q, const struct err *e)
{
	if (q->fd < 0)
		return;
	loop_remove(q->loop, &q->src);
	close_fd(&q->fd);
	for (unsigned i = 0; i < QMP_PENDING_MAX; i++)
		if (q->pending[i].id)
			settle(&q->pending[i], NULL, e);
	if (q->closed)
		q->closed(q, e);
}

static void too_late(struct loop_timer *t)
{
	struct err e;
	err_set(&e, "qmp", ETIMEDOUT, "QEMU did not answer in time");
	settle(container_of(t, struct qmp_pending, deadline), NULL, &e);
}

static void flush(struct qmp *q)
{
	while (q->out_len > 0) {
		ssize_t n = write(q->fd, q->out, q->out_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			struct err e;
			err_sys(&e, "qmp", errno, "write to the monitor");
			close_monitor(q, &e);
			return;
		}
		q->out_len -= (size_t)n;
		memmove(q->out, q->out + n, q->out_len);
	}
}

static struct qmp_pending *find_pending(struct qmp *q, uint64_t id)
{
	for (unsigned i = 0; i < QMP_PENDING_MAX; i++)
		if (q->pending[i].id == id)
			return &q->pending[i];
	return NULL;
}

int qmp_execute(struct qmp *q, const json_t *command, unsigned deadline_ms, qmp_done_fn done, void *ctx,
		struct err *e)
{
	if (q->fd < 0)
		return err_set(e, "qmp", EPIPE, "the monitor is closed");
	if (!json_is_string(json_object_get(command, "execute")))
		return err_set(e, "qmp", EINVAL, "not an object with \"execute\"");
	struct qmp_pending *p = find_pending(q, 0);
	if (!p)
		return err_set(e, "qmp", EBUSY, "%d commands wait for QEMU already", QMP_PENDING_MAX);

	uint64_t id = q->last_id + 1;
	json_t *with_id = json_copy((json_t *)command);
	char *text = NULL;
	if (with_id && json_object_set_new(with_id, "id", json_integer((json_int_t)id)) == 0)
		text = json_dumps(with_id, JSON_COMPACT);
	json_decref(with_id);
	if (!text)
		return err_sys(e, "qmp", ENOMEM, "building a command");
	size_t len = strlen(text);
	if (len + 1 > QMP_OUT_MAX - q->out_len) {
		free(text);
		return err_set(e, "qmp", EMSGSIZE, "a command of %zu bytes does not fit", len);
	}
	memcpy(q->out + q->out_len, text, len);
	q->out[q->out_len + len] = '\n';
	q->out_len += len + 1;
	free(text);

	q->last_id = id;
	*p = (struct qmp_pending){.qmp = q, .id = id, .done = done, .ctx = ctx};
	loop_arm(q->loop, &p->deadline, deadline_ms, too_late);
	/* EPOLLOUT is watched by edge, and comes once more after an attempt that did not take it all. An
	 * error is left to the reader, so that done is not called from here. */
	ssize_t n = write(q->fd, q->out, q->out_len);
	if (n > 0) {
		q->out_len -= (size_t)n;
		memmove(q->out, q->out + n, q->out_len);
	}
	return 0;
}

static void greeted(void *ctx, const json_t *reply, const struct err *e)
{
	struct qmp *q = ctx;
	struct err bad;
	if (json_object_get(reply, "return")) {
		if (q->ready)
			q->ready(q);
		return;
	}
	if (!e) {
		err_set(&bad, "qmp", EPROTO, "QEMU refused qmp_capabilities");
		e = &bad;
	}
	close_monitor(q, e);
}

static void handle_object(struct qmp *q, json_t *o)
{
	const char *event = json_string_value(json_object_get(o, "event"));
	json_t *id = json_object_get(o, "id");
	if (event) {
		if (q->event)
			q->event(q, event, json_object_get(o, "data"));
	} else if (json_object_get(o, "QMP")) {
		json_t *command = json_pack("{s:s}", "execute", "qmp_capabilities");
		qmp_execute(q, command, GREETING_MS, greeted, q, NULL);
		json_decref(command);
	} else if (json_is_integer(id) && json_integer_value(id) > 0) {
		struct qmp_pending *p = find_pending(q, (uint64_t)json_integer_value(id));
		json_object_del(o, "id");
		/* None: its deadline had passed. */
		if (p)
			settle(p, o, NULL);
	}
}

static void handle_lines(struct qmp *q)
{
	char *end;
	size_t used = 0;
	while (q->fd >= 0 && (end = memchr(q->in + used, '\n', q->in_len - used))) {
		size_t len = (size_t)(end - (q->in + used));
		json_t *o = json_loadb(q->in + used, len, 0, NULL);
		used += len + 1;
		if (o)
			handle_object(q, o);
		json_decref(o);
	}
	q->in_len -= used;
	memmove(q->in, q->in + used, q->in_len);
}

void qmp_drain(struct qmp *q)
{
	struct err e;
	while (q->fd >= 0) {
		if (q->in_len == QMP_LINE_MAX) {
			err_set(&e, "qmp", EMSGSIZE, "a line of QEMU's monitor is longer than %d bytes",
				QMP_LINE_MAX);
			close_monitor(q, &e);
			return;
		}
		ssize_t n = read(q->fd, q->in + q->in_len, QMP_LINE_MAX - q->in_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			err_set(&e, "qmp", EPIPE, "QEMU closed its monitor");
			close_monitor(q, &e);
			return;
		}
		q->in_len += (size_t)n;
		handle_lines(q);
	}
}

static void monitor_ready(struct loop_source *src, uint32_t events)
{
	struct qmp *q = container_of(src, struct qmp, src);
	if (events & EPOLLOUT)
		flush(q);
	qmp_drain(q);
}

int qmp_init(struct qmp *q, struct loop *loop, int fd, struct err *e)
{
	*q = (struct qmp){.loop = loop, .fd = fd, .src.fd = -1};
	q->in = malloc(QMP_LINE_MAX);
	q->out = malloc(QMP_OUT_MAX);
	if (!q->in || !q->out)
		return err_sys(e, "qmp", ENOMEM, "buffers");
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(e, "qmp", errno, "fcntl");
	int r = loop_add(loop, &q->src, fd, EPOLLIN | EPOLLOUT | EPOLLET, monitor_ready);
	return r < 0 ? err_sys(e, "qmp", -r, "epoll_ctl") : 0;
}

void qmp_finish(struct qmp *q)
{
	struct err e;
	err_set(&e, "qmp", EPIPE, "the box ends");
	q->closed = NULL;
	close_monitor(q, &e);
	free(q->in);
	free(q->out);
	q->in = q->out = NULL;
}
