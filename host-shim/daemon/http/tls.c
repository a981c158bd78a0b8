#include "tls.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificate.h"
#include "proto/cleanup.h"

#define RECORD_MAX 16384 /* RFC 8446 §5.1 */
#define DRAIN_MS 30000   /* for a client that takes nothing of the last bytes */
#define LINGER_MS 5000   /* for one that has them all, to close */

struct tls {
	uv_loop_t *loop;
	struct certificate *certificate;
	LIST_HEAD(, tls_conn) conns;
};

/* One side of the relay: a socket that is watched for what would move something. */
struct side {
	int fd;
	int watched; /* events that poll waits for */
	bool ended;  /* nothing more is read from it */
	uv_poll_t poll;
};

struct tls_conn {
	LIST_ENTRY(tls_conn) entry;
	struct tls *tls;
	gnutls_session_t session;
	struct side client, plain;
	bool shaken;            /* hands: the handshake is over */
	bool unsent;            /* GnuTLS holds a record that the client's socket did not take */
	bool closed;            /* towards the client, behind all that there was to say */
	bool broken;            /* nothing can be said to the client, nor heard from it */
	bool ending;            /* tls_conn_end was called */
	gnutls_packet_t packet; /* from the client, of which something is not passed on yet */
	size_t packet_at;
	uv_timer_t deadline;
	unsigned handles;
};

/* ---- its end --------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct tls_conn *c = h->data;
	if (--c->handles > 0)
		return;
	certificate_session_end(c->session);
	close_fd(&c->client.fd);
	close_fd(&c->plain.fd);
	free(c);
}

static void destroy(struct tls_conn *c)
{
	LIST_REMOVE(c, entry);
	if (c->packet)
		gnutls_packet_deinit(c->packet);
	uv_close((uv_handle_t *)&c->client.poll, on_closed);
	uv_close((uv_handle_t *)&c->plain.poll, on_closed);
	uv_close((uv_handle_t *)&c->deadline, on_closed);
}

static void on_deadline(uv_timer_t *t)
{
	destroy(t->data);
}

/* Who has the other end sees that it ended. */
static void give_up(struct tls_conn *c)
{
	c->broken = true;
	shutdown(c->client.fd, SHUT_RDWR);
	shutdown(c->plain.fd, SHUT_RDWR);
}

/* ---- moving bytes ---------------------------------------------------------------------------------- */

static bool is_later(int r)
{
	return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static void shake_hands(struct tls_conn *c)
{
	int r = gnutls_handshake(c->session);
	c->shaken = r == 0;
	if (r == 0 || is_later(r))
		return;
	gnutls_alert_send_appropriate(c->session, r);
	give_up(c);
}

/* Ends with a full pair: nobody reads from that while we are here. */
static void move_in(struct tls_conn *c)
{
	gnutls_datum_t data;
	while (!c->client.ended || c->packet) {
		if (!c->packet) {
			ssize_t n = gnutls_record_recv_packet(c->session, &c->packet);
			if (n <= 0 && is_later((int)n))
				return;
			c->packet_at = 0;
			if (n <= 0) {
				c->client.ended = true;
				shutdown(c->plain.fd, SHUT_WR);
				return;
			}
		}
		gnutls_packet_get(c->packet, &data, NULL);
		ssize_t n = send(c->plain.fd, data.data + c->packet_at, data.size - c->packet_at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && would_block())
			return;
		if (n < 0)
			c->client.ended = true; /* nobody wants it */
		else
			c->packet_at += (size_t)n;
		if (n < 0 || c->packet_at == data.size) {
			gnutls_packet_deinit(c->packet);
			c->packet = NULL;
		}
	}
}

/* Ends with an empty pair: nobody writes to that while we are here. */
static void move_out(struct tls_conn *c)
{
	uint8_t buf[RECORD_MAX];
	while (!c->plain.ended || c->unsent) {
		ssize_t n = 0;
		if (!c->unsent) {
			n = recv(c->plain.fd, buf, sizeof buf, MSG_DONTWAIT | MSG_PEEK);
			if (n < 0 && would_block())
				return;
			if (n <= 0) {
				c->plain.ended = true;
				return;
			}
		}
		/* With nothing given, what is held is sent. */
		ssize_t sent = gnutls_record_send(c->session, n ? buf : NULL, (size_t)n);
		c->unsent = sent < 0 && is_later((int)sent);
		if (c->unsent)
			return;
		if (sent < 0) {
			give_up(c);
			return;
		}
		/* Only what went into the record, which a client may have asked to be small: RFC 8449. */
		if (recv(c->plain.fd, buf, (size_t)sent, MSG_DONTWAIT) != sent) {
			give_up(c);
			return;
		}
		if (c->ending)
			uv_timer_start(&c->deadline, on_deadline, DRAIN_MS, 0);
	}
}

static void say_goodbye(struct tls_conn *c)
{
	int r = gnutls_bye(c->session, GNUTLS_SHUT_WR);
	if (is_later(r))
		return;
	c->closed = true;
	shutdown(c->client.fd, SHUT_WR);
	if (c->ending)
		uv_timer_start(&c->deadline, on_deadline, LINGER_MS, 0);
}

/* Closing with unread bytes would reset the connection, and the client might not see its last ones. */
static void waste(struct tls_conn *c)
{
	uint8_t buf[RECORD_MAX];
	ssize_t n = recv(c->client.fd, buf, sizeof buf, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && !would_block()))
		destroy(c);
}

/* ---- events ---------------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *p, int status, int events);

static void watch(struct side *s, int events)
{
	if (events != s->watched && events)
		uv_poll_start(&s->poll, events, on_poll);
	else if (events != s->watched)
		uv_poll_stop(&s->poll);
	s->watched = events;
}

static bool only_lingers(const struct tls_conn *c)
{
	return c->ending && (c->closed || c->broken);
}

static void watch_both(struct tls_conn *c)
{
	int client = 0, plain = 0;
	if (only_lingers(c)) {
		client = UV_READABLE;
	} else if (!c->shaken && !c->broken) {
		client = gnutls_record_get_direction(c->session) ? UV_WRITABLE : UV_READABLE;
	} else if (!c->broken) {
		if (!c->client.ended && !c->packet)
			client |= UV_READABLE;
		if (c->unsent || (c->plain.ended && !c->closed))
			client |= UV_WRITABLE;
		if (!c->plain.ended && !c->unsent)
			plain |= UV_READABLE;
		if (c->packet)
			plain |= UV_WRITABLE;
	}
	watch(&c->client, client);
	watch(&c->plain, plain);
}

static void step(struct tls_conn *c)
{
	if (!c->shaken && !c->broken)
		shake_hands(c);
	if (c->shaken && !c->broken)
		move_in(c);
	if (c->shaken && !c->broken)
		move_out(c);
	if (c->plain.ended && !c->unsent && !c->closed && !c->broken)
		say_goodbye(c);
	watch_both(c);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct tls_conn *c = p->data;
	struct side *s = p == &c->client.poll ? &c->client : &c->plain;
	(void)events;
	if (status < 0)
		s->watched = 0; /* libuv has stopped */
	if (only_lingers(c)) {
		if (status < 0)
			destroy(c);
		else
			waste(c);
		return;
	}
	/* An error of the client's socket is a reset. One of the pair is its end: what was written before
	 * that is still there. */
	if (status < 0 && s == &c->client)
		give_up(c);
	step(c);
}

void tls_conn_end(struct tls_conn *c)
{
	c->ending = true;
	uv_timer_start(&c->deadline, on_deadline, c->closed ? LINGER_MS : DRAIN_MS, 0);
	if (!c->shaken)
		give_up(c);
	step(c);
}

int tls_conn_socket(const struct tls_conn *c)
{
	return c->client.fd;
}

/* ---- the beginning --------------------------------------------------------------------------------- */

static void init_side(struct tls_conn *c, struct side *s, int fd)
{
	s->fd = fd;
	s->poll.data = c;
	if (uv_poll_init(c->tls->loop, &s->poll, fd) < 0)
		abort(); /* epoll takes any socket */
}

struct tls_conn *tls_accept(struct tls *t, int socket, int *plain)
{
	_cleanup_close_ int client = socket;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return NULL;
	struct tls_conn *c = calloc(1, sizeof *c);
	gnutls_session_t session =
		c ? certificate_session(t->certificate, GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) : NULL;
	if (!session) {
		close(pair[0]);
		close(pair[1]);
		free(c);
		return NULL;
	}
	gnutls_transport_set_int(session, client);
	c->tls = t;
	c->session = session;
	init_side(c, &c->client, steal_fd(&client));
	init_side(c, &c->plain, pair[0]);
	uv_timer_init(t->loop, &c->deadline);
	c->deadline.data = c;
	c->handles = 3;
	LIST_INSERT_HEAD(&t->conns, c, entry);
	watch_both(c);
	*plain = pair[1];
	return c;
}

int tls_create(struct tls **out, uv_loop_t *loop, const char *chain, const char *key, struct err *e)
{
	struct tls *t = calloc(1, sizeof *t);
	if (!t)
		return err_sys(e, "tls", ENOMEM, "no memory");
	t->loop = loop;
	LIST_INIT(&t->conns);
	int r = certificate_create(&t->certificate, chain, key, e);
	if (r < 0)
		free(t);
	else
		*out = t;
	return r;
}

int tls_reload(struct tls *t, struct err *e)
{
	return certificate_reload(t->certificate, e);
}

void tls_destroy(struct tls *t)
{
	struct tls_conn *c;
	if (!t)
		return;
	while ((c = LIST_FIRST(&t->conns)))
		destroy(c);
	certificate_destroy(t->certificate);
	free(t);
}
