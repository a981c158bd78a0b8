#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host-shim/daemon/http/peer.h"
#include "internal.h"
#include "proto/cleanup.h"

#define BACKLOG 64
#define ACCEPT_BATCH 16

static void tunnel_free(uv_handle_t *h)
{
	free(h->data);
}

static void tunnel_close(struct tunnel *t)
{
	LIST_REMOVE(t, entry);
	t->tunnels->count--;
	uv_poll_stop(&t->poll);
	close_fd(&t->fd);
	uv_close((uv_handle_t *)&t->poll, tunnel_free);
}

/* ---- who may connect ---- */

static void admit_user(struct tunnel *t, uid_t user)
{
	if (user == TUNNEL_NOBODY)
		return;
	for (unsigned i = 0; i < t->user_count; i++)
		if (t->users[i] == user)
			return;
	if (t->user_count == TUNNEL_USERS_MAX)
		memmove(t->users, t->users + 1, --t->user_count * sizeof *t->users);
	t->users[t->user_count++] = user;
}

static bool may_connect(const struct tunnel *t, int fd)
{
	uid_t user;
	if (t->tunnels->blind)
		return true;
	if (peer_uid(fd, &user) < 0)
		return false;
	for (unsigned i = 0; i < t->user_count; i++)
		if (t->users[i] == user)
			return true;
	return user == 0 || user == geteuid();
}

/* A connection of our own tells whether this kernel answers such questions. */
static void ask_kernel(struct tunnels *ts, int listener)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	uid_t user;
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (ts->asked_kernel || fd < 0 || getsockname(listener, (struct sockaddr *)&a, &len) < 0)
		return;
	connect(fd, (struct sockaddr *)&a, len); /* done at once: the listener has a backlog */
	_cleanup_close_ int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ts->asked_kernel = accepted >= 0;
	ts->blind = accepted >= 0 && peer_uid(accepted, &user) < 0;
	if (ts->blind)
		fprintf(stderr, "tenond: this kernel has no inet_diag: tunnels are open to all users here\n");
}

/* Nothing of it was read, and what it is waiting for is not known: a sentence, in case it is HTTP. */
static void turn_away(int fd)
{
	static const char no[] =
		"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 47\r\n"
		"Connection: close\r\n\r\n"
		"this tunnel is for the users who asked for it.\n";
	send(fd, no, sizeof no - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void on_accept(uv_poll_t *p, int status, int events)
{
	(void)events;
	struct tunnel *t = p->data;
	struct tunnels *ts = t->tunnels;
	if (!boxes_find_id(ts->boxes, t->box_id)) {
		tunnel_close(t);
		return;
	}
	for (int i = 0; status == 0 && i < ACCEPT_BATCH; i++) {
		int fd = accept4(t->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (!may_connect(t, fd))
			turn_away(fd);
		else if (ts->conn_count < TUNNEL_CONNS_MAX)
			tunnel_conn_create(t, fd);
		else
			close(fd);
	}
}

static int listen_on_loopback(uint16_t *port, struct err *e)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return err_sys(e, "tunnel", errno, "cannot listen on 127.0.0.1");
	*port = ntohs(a.sin_port);
	return steal_fd(&fd);
}

static void sweep(struct tunnels *ts)
{
	struct tunnel *t, *next;
	for (t = LIST_FIRST(&ts->list); t; t = next) {
		next = LIST_NEXT(t, entry);
		if (!boxes_find_id(ts->boxes, t->box_id))
			tunnel_close(t);
	}
}

int tunnels_open(struct tunnels *ts, const char *box_id, uint16_t port, uid_t user, uint16_t *out,
		 struct err *e)
{
	struct tunnel *t;
	sweep(ts);
	LIST_FOREACH (t, &ts->list, entry)
		if (t->port == port && strcmp(t->box_id, box_id) == 0) {
			admit_user(t, user);
			*out = t->host_port;
			return 0;
		}
	if (ts->count == TUNNELS_MAX)
		return err_set(e, "tunnel", EMFILE, "there are %d tunnels already", TUNNELS_MAX);
	t = calloc(1, sizeof *t);
	if (!t)
		return err_sys(e, "tunnel", ENOMEM, "no memory");
	t->fd = listen_on_loopback(&t->host_port, e);
	if (t->fd < 0) {
		int r = t->fd;
		free(t);
		return r;
	}
	ask_kernel(ts, t->fd);
	admit_user(t, user);
	t->tunnels = ts;
	t->port = port;
	snprintf(t->box_id, sizeof t->box_id, "%s", box_id);
	uv_poll_init(ts->loop, &t->poll, t->fd);
	t->poll.data = t;
	uv_poll_start(&t->poll, UV_READABLE, on_accept);
	LIST_INSERT_HEAD(&ts->list, t, entry);
	ts->count++;
	*out = t->host_port;
	return 0;
}

int tunnels_close(struct tunnels *ts, const char *box_id, uint16_t port)
{
	struct tunnel *t;
	LIST_FOREACH (t, &ts->list, entry)
		if (t->port == port && strcmp(t->box_id, box_id) == 0) {
			tunnel_conns_end(t);
			tunnel_close(t);
			return 0;
		}
	return -ENOENT;
}

int tunnels_create(struct tunnels **out, uv_loop_t *loop, struct boxes *boxes, struct err *e)
{
	struct tunnels *ts = calloc(1, sizeof *ts);
	if (!ts)
		return err_sys(e, "tunnel", ENOMEM, "no memory");
	ts->loop = loop;
	ts->boxes = boxes;
	*out = ts;
	return 0;
}

void tunnels_destroy(struct tunnels *ts)
{
	if (!ts)
		return;
	while (!LIST_EMPTY(&ts->conns))
		tunnel_conn_destroy(LIST_FIRST(&ts->conns));
	while (!LIST_EMPTY(&ts->list))
		tunnel_close(LIST_FIRST(&ts->list));
	free(ts);
}
