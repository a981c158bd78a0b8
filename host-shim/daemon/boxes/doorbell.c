#include "doorbell.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/cleanup.h"
#include "proto/frame.h"

struct doorbell {
	uv_pipe_t listener;
	void (*rung)(void *arg);
	void *arg;
};

static void free_handle(uv_handle_t *h)
{
	free(h);
}

static void free_doorbell(uv_handle_t *h)
{
	free(h->data);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct doorbell *d = listener->data;
	uv_pipe_t *visitor = status < 0 ? NULL : malloc(sizeof *visitor);
	if (!visitor)
		return;
	uv_pipe_init(listener->loop, visitor, 0);
	uv_accept(listener, (uv_stream_t *)visitor);
	uv_close((uv_handle_t *)visitor, free_handle);
	d->rung(d->arg);
}

int doorbell_create(struct doorbell **out, uv_loop_t *loop, const char *run_dir, void (*rung)(void *arg), void *arg,
		    struct err *e)
{
	char path[108];
	if (snprintf(path, sizeof path, "%s/vsock.sock_%d", run_dir, WIRE_PORT_DOORBELL) >= (int)sizeof path)
		return err_set(e, "doorbell", ENAMETOOLONG, "%s is too long for a socket", run_dir);
	struct doorbell *d = calloc(1, sizeof *d);
	if (!d)
		return err_sys(e, "doorbell", ENOMEM, "doorbell");
	d->rung = rung;
	d->arg = arg;
	uv_pipe_init(loop, &d->listener, 0);
	d->listener.data = d;
	unlink(path);
	int r = uv_pipe_bind(&d->listener, path);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&d->listener, 8, on_connection);
	if (r < 0) {
		doorbell_destroy(d);
		return err_sys(e, "doorbell", -r, "%s", path);
	}
	*out = d;
	return 0;
}

void doorbell_destroy(struct doorbell *d)
{
	if (d)
		uv_close((uv_handle_t *)&d->listener, free_doorbell);
}
