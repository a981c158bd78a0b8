#include "listener.h"

#include "proto/cleanup.h"
#include "unix_sock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct listener_client {
	struct listener *listener;
	int fd;
	struct loop_source src;
	struct loop_timer deadline;
	struct listener_client *prev, *next;
};

ssize_t connect_line_parse(const char *buf, size_t n, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	size_t known = n < sizeof word - 1 ? n : sizeof word - 1;
	if (memcmp(buf, word, known) != 0)
		return -EPROTO;

	uint64_t value = 0;
	for (size_t i = sizeof word - 1; i < n; i++) {
		size_t digits = i - (sizeof word - 1);
		if (buf[i] == '\n' && digits > 0) {
			*port = (uint32_t)value;
			return (ssize_t)i + 1;
		}
		if (buf[i] < '0' || buf[i] > '9' || (digits == 1 && value == 0))
			return -EPROTO;
		value = value * 10 + (uint64_t)(buf[i] - '0');
		if (value >= UINT32_MAX)
			return -EPROTO;
	}
	return 0;
}

static void client_destroy(struct listener_client *c)
{
	*(c->prev ? &c->prev->next : &c->listener->waiting) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->listener->n_waiting--;
	loop_disarm(&c->deadline);
	loop_remove(c->listener->loop, &c->src);
	close_fd(&c->fd);
	free(c);
}

static void line_too_late(struct loop_timer *t)
{
	client_destroy(container_of(t, struct listener_client, deadline));
}

static void client_ready(struct loop_source *src, uint32_t events)
{
	struct listener_client *c = container_of(src, struct listener_client, src);
	char line[CONNECT_LINE_MAX];
	uint32_t port = 0;
	(void)events;

	/* Looked at, then taken to the newline and no further: what follows is the connection's. */
	ssize_t n = recv(c->fd, line, sizeof line, MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	ssize_t len = n <= 0 ? -EPROTO : connect_line_parse(line, (size_t)n, &port);
	if (len == 0)
		return;
	if (len > 0 && recv(c->fd, line, (size_t)len, 0) == len) {
		loop_remove(c->listener->loop, &c->src);
		/* An error has closed the client's socket, which is its answer. */
		vsock_connect(c->listener->dev, steal_fd(&c->fd), port);
	}
	client_destroy(c);
}

static void take_client(struct listener *l, int fd)
{
	_cleanup_close_ int client = fd;
	struct listener_client *c = NULL;
	if (l->n_waiting == LISTENER_WAITING_MAX || !(c = calloc(1, sizeof *c)))
		return;
	c->listener = l;
	c->src.fd = -1;
	c->fd = steal_fd(&client);
	c->next = l->waiting;
	if (l->waiting)
		l->waiting->prev = c;
	l->waiting = c;
	l->n_waiting++;
	/* Edge-triggered: a half line stays in the socket and must not wake us for ever. */
	if (loop_add(l->loop, &c->src, c->fd, EPOLLIN | EPOLLRDHUP | EPOLLET, client_ready) < 0)
		client_destroy(c);
	else
		loop_arm(l->loop, &c->deadline, CONNECT_LINE_MS, line_too_late);
}

static void accept_clients(struct loop_source *src, uint32_t events)
{
	struct listener *l = container_of(src, struct listener, src);
	(void)events;
	/* Edge-triggered, so to the end. Out of fds also ends it: those clients have their own deadlines. */
	for (;;) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			take_client(l, fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

int listener_init(struct listener *l, struct loop *loop, struct vsock *dev, const char *path, struct err *e)
{
	*l = (struct listener){.loop = loop, .dev = dev, .fd = -1, .src.fd = -1};
	l->fd = unix_sock_listen(path, e);
	if (l->fd < 0)
		return l->fd;
	int r = loop_add(loop, &l->src, l->fd, EPOLLIN | EPOLLET, accept_clients);
	return r < 0 ? err_sys(e, "socket", -r, "epoll_ctl") : 0;
}

void listener_finish(struct listener *l)
{
	while (l->waiting)
		client_destroy(l->waiting);
	loop_remove(l->loop, &l->src);
	close_fd(&l->fd);
}
