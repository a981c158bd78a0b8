#include "guest/net/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "guest/bulk/channel.h"
#include "guest/loop.h"
#include "proto/cleanup.h"

/* A port that nobody listens on may be taken for the near end too, and then TCP connects it to itself. */
static bool is_itself(int fd)
{
	struct sockaddr_in6 near, far;
	socklen_t n = sizeof near, m = sizeof far;
	return getsockname(fd, (struct sockaddr *)&near, &n) == 0 &&
	       getpeername(fd, (struct sockaddr *)&far, &m) == 0 && n == m && memcmp(&near, &far, n) == 0;
}

static int finish(int fd, int leaver, uint64_t end)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLOUT}, {.fd = leaver, .events = POLLRDHUP}};
	uint64_t now = clock_mono();
	int error = 0,
	    r = now >= end ? -ETIMEDOUT
			   : channel_wait(fds, 2, (int)((end - now) / NSEC_PER_MSEC) + 1, CHANNEL_IDLE);
	socklen_t n = sizeof error;
	if (r < 0)
		return r;
	if (fds[1].revents)
		return -ECANCELED;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 ? -errno : -error;
}

static int dial(const struct sockaddr *address, socklen_t n, int leaver, uint64_t end)
{
	_cleanup_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = fd < 0 || connect(fd, address, n) < 0 ? -errno : 0, on = 1;
	if (r == -EINPROGRESS)
		r = finish(fd, leaver, end);
	if (r == 0 && is_itself(fd))
		r = -ECONNREFUSED;
	if (r < 0)
		return r;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return steal_fd(&fd);
}

int dial_loopback(uint16_t port, int leaver, int ms)
{
	const struct sockaddr_in four = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr_in6 six = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	uint64_t end = clock_mono() + (uint64_t)ms * NSEC_PER_MSEC;
	int first = dial((const struct sockaddr *)&four, sizeof four, leaver, end);
	if (first != -ECONNREFUSED)
		return first;
	int second = dial((const struct sockaddr *)&six, sizeof six, leaver, end);
	bool told = second >= 0 || second == -ETIMEDOUT || second == -ECANCELED;
	return told ? second : first;
}
