/* Connections to the loopback: refused, too slow, given up, and never to themselves. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/loop.h"
#include "guest/net/dial.h"

#define SELF_ROUNDS 40000 /* more than there are ports to be given out for the near end */

/* Bound to a free port of 127.0.0.1, and listening if backlog >= 0. */
static int bound(uint16_t *port, int backlog)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void accepted(void **state)
{
	(void)state;
	uint16_t port;
	int listener = bound(&port, 8), fd = dial_loopback(port, -1, 5000);
	assert_true(fd >= 0);
	close(fd);
	close(listener);
}

static void refused(void **state)
{
	(void)state;
	uint16_t port;
	int fd = bound(&port, -1);
	assert_int_equal(dial_loopback(port, -1, 5000), -ECONNREFUSED);
	close(fd);
}

/* A listener that accepts nobody any more: the queue holds one, and another half way. */
struct full {
	uint16_t port;
	int listener, waiting[4];
};

static struct full fill(void)
{
	struct full f;
	f.listener = bound(&f.port, 0);
	for (size_t i = 0; i < sizeof f.waiting / sizeof *f.waiting; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET,
					.sin_port = htons(f.port),
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		f.waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(f.waiting[i], (struct sockaddr *)&a, sizeof a);
	}
	return f;
}

static void empty(struct full *f)
{
	for (size_t i = 0; i < sizeof f->waiting / sizeof *f->waiting; i++)
		close(f->waiting[i]);
	close(f->listener);
}

static void too_slow(void **state)
{
	(void)state;
	struct full f = fill();
	uint64_t began = clock_mono();
	assert_int_equal(dial_loopback(f.port, -1, 50), -ETIMEDOUT);
	uint64_t took = clock_mono() - began;
	assert_true(took >= 50 * NSEC_PER_MSEC && took < 5 * NSEC_PER_SEC);
	empty(&f);
}

static void given_up(void **state)
{
	(void)state;
	struct full f = fill();
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	close(pair[1]);
	assert_int_equal(dial_loopback(f.port, pair[0], 60000), -ECANCELED);
	close(pair[0]);
	empty(&f);
}

/* Sooner or later the kernel picks the very port that is dialled for the near end. */
static void never_to_itself(void **state)
{
	(void)state;
	uint16_t port;
	do /* connect(2) prefers even ports for it, bind(2) odd ones */
		close(bound(&port, -1));
	while (port < 32768);
	port &= 0xfffe;
	for (int i = 0; i < SELF_ROUNDS; i++) {
		int fd = dial_loopback(port, -1, 5000);
		assert_int_equal(fd, -ECONNREFUSED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted), cmocka_unit_test(refused),         cmocka_unit_test(too_slow),
		cmocka_unit_test(given_up), cmocka_unit_test(never_to_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
