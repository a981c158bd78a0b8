#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"
#include "proto/cleanup.h"

#define BACKLOG 512
#define CONNECTION_MEMORY (64u << 10) /* a head, a chunk of a stream; half of it a piece of a body */
#define ACCEPT_BATCH 64
#define PUMP_ROUNDS 16
#define REPLY_TIMEOUT_MS 60000
#define STREAM_TIMEOUT_MS (15 * 60 * 1000)

struct listener {
	struct listener *next;
	struct http_server *server;
	int fd;
	char url[80]; /* "" for a unix socket */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	uv_poll_t poll;
};

/* ---- MHD on the loop ---- */

static void on_mhd_timer(uv_timer_t *t);
static void on_before_poll(uv_prepare_t *p);

static void run(struct http_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;
	bool waits = false; /* for ms at most; else for its fd alone */
	/* MHD's epoll is edge-triggered: what it has not finished shows only in its timeout. The rounds are
	 * bounded so that one fast stream does not own the loop. */
	for (int round = 0; round < PUMP_ROUNDS; round++) {
		s->kicked = false;
		MHD_run(s->mhd);
		waits = MHD_get_timeout(s->mhd, &ms) == MHD_YES;
		if (!s->kicked && (!waits || ms > 0))
			break;
	}
	if (s->kicked)
		return; /* by the last round */
	uv_prepare_stop(s->before_poll);
	if (!waits)
		uv_timer_stop(s->timer);
	else
		uv_timer_start(s->timer, on_mhd_timer, ms, 0);
}

static void on_mhd_timer(uv_timer_t *t)
{
	run(t->data);
}

static void on_before_poll(uv_prepare_t *p)
{
	run(p->data);
}

static void on_awake(uv_idle_t *h)
{
	struct http_server *s = h->data;
	if (!s->kicked)
		uv_idle_stop(h);
}

/* Not by the timer: what the loop's idle callbacks have answered would wait for one more turn. But a prepare
 * handle that is started by another, this one here or a link's in a handler that MHD calls, has its turn in
 * the next round of the loop: so while this one is due, and once more, the loop does not wait. */
void server_kick(struct http_server *s)
{
	s->kicked = true;
	uv_prepare_start(s->before_poll, on_before_poll);
	uv_idle_start(s->awake, on_awake);
}

static void on_mhd_ready(uv_poll_t *p, int status, int events)
{
	(void)status;
	(void)events;
	run(p->data);
}

/* ---- connections ---- */

/* Nothing of a reply is on the wire and MHD will not write one: these bytes cannot land in another's middle.
 */
static void tell_deadline(struct connection *c)
{
	char id[REQUEST_ID_SIZE], body[512], reply[1024];
	if (c->request)
		strcpy(id, c->request->id);
	else
		request_choose_id(id, NULL);
	snprintf(body, sizeof body,
		 "{\"error\":{\"message\":\"the request did not arrive in time\",\"type\":\"TimeoutError\","
		 "\"code\":%s,\"request_id\":\"%s\"}}",
		 c->request && c->request->numeric ? "408" : "\"timeout\"", id);
	int len = snprintf(reply, sizeof reply,
			   "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
			   "X-Request-Id: %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
			   id, strlen(body), body);
	send(c->fd, reply, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void on_deadline(uv_timer_t *t)
{
	struct connection *c = t->data;
	if (c->tell)
		tell_deadline(c);
	shutdown(c->fd, SHUT_RDWR);
}

void connection_expect(struct connection *c, enum deadline d)
{
	const struct http_config *config = &c->server->config;
	unsigned ms = 0;
	switch (d) {
	case DEADLINE_NONE:
		uv_timer_stop(&c->deadline);
		return;
	case DEADLINE_HEAD:
		ms = config->head_timeout_ms;
		break;
	case DEADLINE_BODY:
		ms = config->body_timeout_ms;
		break;
	case DEADLINE_REPLY:
		ms = REPLY_TIMEOUT_MS;
		break;
	case DEADLINE_STREAM:
		ms = STREAM_TIMEOUT_MS;
		break;
	case DEADLINE_IDLE:
		ms = config->idle_timeout_ms;
		break;
	}
	c->tell = d == DEADLINE_HEAD || d == DEADLINE_BODY;
	uv_timer_start(&c->deadline, on_deadline, ms, 0);
}

static void connection_free(uv_handle_t *h)
{
	free(h->data);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http_server *s = cls;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		struct connection *c = calloc(1, sizeof *c);
		*context = c;
		if (!c)
			return;
		c->server = s;
		c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		c->from_unix = s->accepting_unix;
		c->tls = s->accepting_tls;
		s->accepting_tls = NULL;
		uv_timer_init(s->config.loop, &c->deadline);
		c->deadline.data = c;
		s->connections++;
		connection_expect(c, DEADLINE_HEAD);
	} else if (*context) {
		struct connection *c = *context;
		*context = NULL;
		s->connections--;
		if (c->tls)
			tls_conn_end(c->tls);
		uv_close((uv_handle_t *)&c->deadline, connection_free);
	}
}

static void on_accept(uv_poll_t *p, int status, int events);

static void on_relisten(uv_timer_t *t)
{
	struct http_server *s = t->data;
	for (struct listener *l = s->listeners; l; l = l->next)
		uv_poll_start(&l->poll, UV_READABLE, on_accept);
}

/* Owns fd, the client's. */
static void take(const struct listener *l, int fd, const struct sockaddr_storage *peer, socklen_t len)
{
	struct http_server *s = l->server;
	int on = 1;
	if (l->url[0]) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
	s->accepting_unix = !l->url[0];
	if (s->tls && l->url[0] && !(s->accepting_tls = tls_accept(s->tls, fd, &fd)))
		return;
	MHD_add_connection(s->mhd, fd, (const struct sockaddr *)peer, len); /* closes fd if it fails */
	if (s->accepting_tls)
		tls_conn_end(steal_ptr(&s->accepting_tls));
}

static void on_accept(uv_poll_t *p, int status, int events)
{
	(void)events;
	struct listener *l = p->data;
	struct http_server *s = l->server;
	for (int i = 0; status == 0 && i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage peer = {0};
		socklen_t len = sizeof peer;
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			/* The listener stays readable: without a pause this would spin. */
			for (struct listener *each = s->listeners; each; each = each->next)
				uv_poll_stop(&each->poll);
			uv_timer_start(s->relisten, on_relisten, 100, 0);
			break;
		}
		if (fd < 0)
			break;
		take(l, fd, &peer, len);
	}
	run(s);
}

/* ---- listeners ---- */

/* "127.0.0.1:80" and "[::1]:80" */
static int parse_address(const char *text, struct sockaddr_storage *out, socklen_t *len, struct err *e)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t n = colon ? (size_t)(colon - text) : 0;
	const char *start = text;
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		start++;
		n -= 2;
	}
	if (!colon || n == 0 || n >= sizeof host)
		return err_set(e, "listen", EINVAL, "%s is not ADDRESS:PORT", text);
	memcpy(host, start, n);
	host[n] = '\0';
	char *end;
	long port = strtol(colon + 1, &end, 10);
	if (end == colon + 1 || *end || port < 0 || port > 65535)
		return err_set(e, "listen", EINVAL, "%s has no port between 0 and 65535", text);
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				       .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
		return err_set(e, "listen", EINVAL, "%s is not a numeric address", host);
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

bool http_address_is_loopback(const char *address)
{
	struct sockaddr_storage a;
	socklen_t len;
	if (parse_address(address, &a, &len, NULL) < 0)
		return false;
	if (a.ss_family == AF_INET)
		return ntohl(((struct sockaddr_in *)&a)->sin_addr.s_addr) >> 24 == 127;
	return a.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&a)->sin6_addr);
}

/* Takes fd, also when it fails. */
static int add_listener(struct http_server *s, int fd, const char *url, const char *path, struct err *e)
{
	_cleanup_close_ int owned = fd;
	struct listener *l = calloc(1, sizeof *l);
	if (!l)
		return err_sys(e, "listen", ENOMEM, "no memory");
	snprintf(l->url, sizeof l->url, "%s", url);
	snprintf(l->path, sizeof l->path, "%s", path);
	int r = uv_poll_init(s->config.loop, &l->poll, fd);
	if (r < 0) {
		free(l);
		return err_sys(e, "listen", -r, "cannot watch the listener");
	}
	l->fd = steal_fd(&owned);
	l->server = s;
	l->poll.data = l;
	struct listener **at = &s->listeners;
	while (*at)
		at = &(*at)->next;
	*at = l;
	uv_poll_start(&l->poll, UV_READABLE, on_accept);
	return 0;
}

int http_listen_tcp(struct http_server *s, const char *address, struct err *e)
{
	struct sockaddr_storage a;
	socklen_t len;
	int r = parse_address(address, &a, &len, e);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;
	if (fd < 0)
		return err_sys(e, "listen", errno, "no socket for %s", address);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (a.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return err_sys(e, "listen", errno, "cannot listen on %s", address);
	char host[INET6_ADDRSTRLEN], port[8], url[80];
	const char *scheme = s->tls ? "https" : "http";
	getnameinfo((struct sockaddr *)&a, len, host, sizeof host, port, sizeof port,
		    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(url, sizeof url, a.ss_family == AF_INET6 ? "%s://[%s]:%s" : "%s://%s:%s", scheme, host,
		 port);
	return add_listener(s, steal_fd(&fd), url, "", e);
}

int http_listen_unix(struct http_server *s, const char *path, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path)
		return err_set(e, "listen", ENAMETOOLONG, "%s is longer than %zu bytes", path,
			       sizeof a.sun_path - 1);
	strcpy(a.sun_path, path);
	_cleanup_close_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || probe < 0)
		return err_sys(e, "listen", errno, "no socket for %s", path);
	struct stat st;
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(e, "listen", EEXIST, "%s exists and is not a socket", path);
		if (connect(probe, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN)
			return err_set(e, "listen", EADDRINUSE, "somebody serves on %s", path);
		unlink(path);
	}
	/* The mode is the access control, so the socket must never exist with a wider one. */
	mode_t mask = umask(0177);
	int r = bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0 || listen(fd, BACKLOG) < 0)
		return err_sys(e, "listen", r < 0 ? -r : errno, "cannot listen on %s", path);
	return add_listener(s, steal_fd(&fd), "", path, e);
}

const char *http_listen_url(const struct http_server *s, size_t n)
{
	for (const struct listener *l = s->listeners; l; l = l->next)
		if (l->url[0] && n-- == 0)
			return l->url;
	return NULL;
}

/* ---- life ---- */

static void free_handle(uv_handle_t *h)
{
	free(h);
}

static void listener_free(uv_handle_t *h)
{
	free(h->data);
}

/* The router decodes, segment by segment: an encoded slash is no separator. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
	(void)cls;
	(void)mhd;
	return strlen(s);
}

#define MHD_FLAGS (MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE)

static int start_mhd(struct http_server *s, struct err *e)
{
	s->mhd = MHD_start_daemon(
		MHD_FLAGS, 0, NULL, NULL, request_access, s, MHD_OPTION_NOTIFY_COMPLETED, request_completed,
		s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_CONNECTION_LIMIT,
		s->config.connection_limit, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_END);
	/* A heap handle, since uv_close outlives the server. */
	s->poll = s->mhd ? calloc(1, sizeof *s->poll) : NULL;
	int fd = s->poll ? MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd : -1;
	if (fd < 0 || uv_poll_init(s->config.loop, s->poll, fd) < 0) {
		free(steal_ptr(&s->poll));
		return err_set(e, "http", ENOMEM, "the HTTP library did not start");
	}
	s->poll->data = s;
	uv_poll_start(s->poll, UV_READABLE, on_mhd_ready);
	return 0;
}

static void stop_mhd(struct http_server *s)
{
	if (s->poll)
		uv_poll_stop(s->poll);
	if (s->mhd)
		MHD_stop_daemon(s->mhd);
	if (s->poll)
		uv_close((uv_handle_t *)s->poll, free_handle);
}

int http_server_create(struct http_server **out, const struct http_config *c, struct err *e)
{
	struct http_server *s = calloc(1, sizeof *s);
	if (!s)
		return err_sys(e, "http", ENOMEM, "no memory");
	s->config = *c;
	if (!s->config.connection_limit)
		s->config.connection_limit = 4096;
	if (!s->config.head_timeout_ms)
		s->config.head_timeout_ms = 30000;
	if (!s->config.body_timeout_ms)
		s->config.body_timeout_ms = 60000;
	if (!s->config.ping_ms)
		s->config.ping_ms = 15000;
	if (!s->config.idle_timeout_ms)
		s->config.idle_timeout_ms = 75000;
	s->timer = calloc(1, sizeof *s->timer);
	s->relisten = calloc(1, sizeof *s->relisten);
	s->before_poll = calloc(1, sizeof *s->before_poll);
	s->awake = calloc(1, sizeof *s->awake);
	if (!s->timer || !s->relisten || !s->before_poll || !s->awake)
		abort();
	uv_timer_init(c->loop, s->timer);
	uv_timer_init(c->loop, s->relisten);
	uv_prepare_init(c->loop, s->before_poll);
	uv_idle_init(c->loop, s->awake);
	s->timer->data = s->relisten->data = s->before_poll->data = s->awake->data = s;
	int r = c->tls_cert ? tls_create(&s->tls, c->loop, c->tls_cert, c->tls_key, e) : 0;
	if (r == 0)
		r = start_mhd(s, e);
	if (r < 0)
		http_server_destroy(s);
	else
		*out = s;
	return r;
}

int http_reload_tls(struct http_server *s, struct err *e)
{
	return s->tls ? tls_reload(s->tls, e) : 0;
}

void http_server_destroy(struct http_server *s)
{
	if (!s)
		return;
	while (s->listeners) {
		struct listener *l = s->listeners;
		s->listeners = l->next;
		uv_poll_stop(&l->poll);
		close(l->fd);
		if (l->path[0])
			unlink(l->path);
		uv_close((uv_handle_t *)&l->poll, listener_free);
	}
	/* MHD aborts the process if it is stopped while connections are suspended or upgraded. */
	while (s->sockets)
		ws_abort(s->sockets);
	for (struct http_request *r = s->requests; r; r = r->next)
		request_resume(r);
	stop_mhd(s);
	tls_destroy(s->tls);
	uv_close((uv_handle_t *)s->timer, free_handle);
	uv_close((uv_handle_t *)s->relisten, free_handle);
	uv_close((uv_handle_t *)s->before_poll, free_handle);
	uv_close((uv_handle_t *)s->awake, free_handle);
	free(s);
}
