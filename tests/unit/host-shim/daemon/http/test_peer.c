/* Whose the other end of a socket is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host-shim/daemon/http/peer.h"

/* A connection over loopback: the accepted end, and the client's in *client. */
static int connection(int family, int client_family, int *client)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&four : (struct sockaddr *)&six;
	socklen_t len = family == AF_INET ? sizeof four : sizeof six;
	int listener = socket(family, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, a, len) < 0)
		return -1;
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, a, &len), 0);
	if (client_family != family) { /* an IPv4 address in an IPv6 socket, as Java does */
		memset(&six.sin6_addr, 0, 16);
		memset(six.sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(six.sin6_addr.s6_addr + 12, &four.sin_addr, 4);
		six.sin6_port = four.sin_port;
		a = (struct sockaddr *)&six;
		len = sizeof six;
	}
	*client = socket(client_family, SOCK_STREAM, 0);
	assert_int_equal(connect(*client, a, len), 0);
	int fd = accept(listener, NULL, NULL);
	close(listener);
	return fd;
}

static void ours(void **state)
{
	(void)state;
	static const int families[][2] = {{AF_INET, AF_INET}, {AF_INET6, AF_INET6}, {AF_INET, AF_INET6}};
	for (size_t i = 0; i < 3; i++) {
		int client = -1, fd = connection(families[i][0], families[i][1], &client);
		uid_t uid = (uid_t)-1;
		if (fd < 0)
			continue; /* no IPv6 here */
		assert_int_equal(peer_uid(fd, &uid), 0);
		assert_int_equal(uid, geteuid());
		/* Half closed it is still held; closed it is nobody's, and not root's. */
		shutdown(client, SHUT_WR);
		uid = (uid_t)-1;
		assert_int_equal(peer_uid(fd, &uid), 0);
		assert_int_equal(uid, geteuid());
		close(client);
		uid = (uid_t)-1;
		assert_true(peer_uid(fd, &uid) < 0);
		assert_int_equal(uid, (uid_t)-1);
		close(fd);
	}
}

static void unix_sockets(void **state)
{
	(void)state;
	int pair[2];
	uid_t uid = (uid_t)-1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(peer_uid(pair[0], &uid), 0);
	assert_int_equal(uid, geteuid());
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(peer_uid(pair[0], &uid), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ours), cmocka_unit_test(unix_sockets)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
