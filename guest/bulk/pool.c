#include "guest/bulk/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

/* What the worker's side of the fork needs; on the stack of whoever starts it. */
struct start {
	struct bulk_context context;
	int fd, ns_fd;
	const uint8_t *pending;
	size_t n;
};

/* In the worker. Nothing is reported: the host hears it all on the connection. */
static int serve(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	struct start *s = arg;
	struct channel ch;
	/* The agent's own, while its namespace is still ours. */
	s->context.proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->ns_fd >= 0 && setns(s->ns_fd, CLONE_NEWNS) < 0)
		return err_sys(e, "setns", errno, "cannot enter the box");
	int r = channel_init(&ch, s->fd, s->pending, s->n);
	if (r == 0)
		bulk_serve(&ch, &s->context);
	return r;
}

static void ended(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	(void)w;
	(void)r;
	(void)e;
	(void)fds;
}

/* Those that ran once come first, so that memory is touched for as many as there were at once. */
static struct worker *find_free(struct bulk_pool *p)
{
	for (int i = 0; i < p->used; i++)
		if (!worker_running(&p->workers[i]))
			return &p->workers[i];
	if (p->used == BULK_MAX)
		return NULL;
	struct worker *w = &p->workers[p->used++];
	worker_init(w, p->loop, ended);
	w->offered = p->offered;
	w->stands_alone = true;
	return w;
}

int bulk_pool_start(struct bulk_pool *p, int fd, const uint8_t *pending, size_t n, struct fault *f)
{
	struct worker *w = find_free(p);
	if (!w)
		return fault_exhausted(f, NULL, "%d bulk connections are open already", BULK_MAX);
	const int ns_fd = p->context.execs->base.ns_fd;
	struct start s = {.context = p->context, .fd = fd, .ns_fd = ns_fd, .pending = pending, .n = n};
	const int keep[] = {fd, ns_fd, p->context.upper_fd, p->context.execs->cgroups.root};
	int r = worker_start(w, serve, &s, keep, sizeof keep / sizeof *keep, 0);
	return r < 0 ? fault_exhausted(f, NULL, "cannot start a worker: %s", strerror(-r)) : 0;
}
