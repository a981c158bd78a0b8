#include "guest/net/netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define ANSWER_MAX 32768 /* the most the kernel puts into one datagram of a list */
#define ANSWER_SECONDS 10

void netlink_begin(struct netlink_request *r, uint16_t type, uint16_t flags, const void *body, size_t n)
{
	memset(r, 0, sizeof *r);
	r->head.nlmsg_type = type;
	r->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(n);
	memcpy(r->bytes + NLMSG_HDRLEN, body, n);
}

bool netlink_put(struct netlink_request *r, uint16_t type, const void *data, size_t n)
{
	size_t at = NLMSG_ALIGN(r->head.nlmsg_len), len = RTA_LENGTH(n);
	if (at + RTA_ALIGN(len) > sizeof r->bytes)
		return false;
	struct rtattr a = {.rta_type = type, .rta_len = (unsigned short)len};
	memcpy(r->bytes + at, &a, sizeof a);
	memcpy(r->bytes + at + RTA_LENGTH(0), data, n);
	r->head.nlmsg_len = (uint32_t)(at + len);
	return true;
}

bool netlink_put_u32(struct netlink_request *r, uint16_t type, uint32_t value)
{
	return netlink_put(r, type, &value, sizeof value);
}

const struct nlmsghdr *netlink_next(const void *buf, size_t n, size_t *at)
{
	const struct nlmsghdr *m = (const struct nlmsghdr *)((const uint8_t *)buf + *at);
	if (*at > n || n - *at < sizeof *m || m->nlmsg_len < sizeof *m || m->nlmsg_len > n - *at)
		return NULL;
	*at += NLMSG_ALIGN(m->nlmsg_len);
	return m;
}

const void *netlink_attr(const struct nlmsghdr *m, size_t body, uint16_t type, size_t *len)
{
	const uint8_t *bytes = (const uint8_t *)m;
	for (size_t at = NLMSG_SPACE(body);
	     at < m->nlmsg_len && m->nlmsg_len - at >= sizeof(struct rtattr);) {
		const struct rtattr *a = (const struct rtattr *)(bytes + at);
		if (a->rta_len < sizeof *a || a->rta_len > m->nlmsg_len - at)
			return NULL;
		if (a->rta_type == type) {
			*len = a->rta_len - RTA_LENGTH(0);
			return bytes + at + RTA_LENGTH(0);
		}
		at += RTA_ALIGN(a->rta_len);
	}
	return NULL;
}

int netlink_open(uint32_t groups)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = groups};
	struct timeval patience = {.tv_sec = ANSWER_SECONDS};
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
	    bind(fd, (struct sockaddr *)&self, sizeof self) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* The kernel's word at the end of an answer: 1 with *result, or 0 if m is something else. */
static int is_end(const struct nlmsghdr *m, int *result)
{
	if (m->nlmsg_type == NLMSG_DONE) {
		*result = 0;
		return 1;
	}
	if (m->nlmsg_type != NLMSG_ERROR)
		return 0;
	const struct nlmsgerr *e = NLMSG_DATA(m);
	*result = m->nlmsg_len < NLMSG_LENGTH(sizeof *e) ? -EPROTO : e->error;
	return 1;
}

static int exchange(int fd, struct netlink_request *r, int (*each)(const struct nlmsghdr *m, void *arg),
		    void *arg)
{
	static uint32_t sequence;
	static uint8_t answer[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	int found = 0, result;
	r->head.nlmsg_seq = ++sequence;
	if (send(fd, r->bytes, r->head.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		size_t at = 0;
		for (const struct nlmsghdr *m; (m = netlink_next(answer, (size_t)n, &at));) {
			if (m->nlmsg_seq != sequence)
				continue;
			if (is_end(m, &result))
				return result < 0 ? result : found;
			if (each && found == 0)
				found = each(m, arg);
		}
	}
}

int netlink_talk(int fd, struct netlink_request *r)
{
	r->head.nlmsg_flags |= NLM_F_ACK;
	return exchange(fd, r, NULL, NULL);
}

int netlink_dump(int fd, struct netlink_request *r, int (*each)(const struct nlmsghdr *m, void *arg),
		 void *arg)
{
	r->head.nlmsg_flags |= NLM_F_DUMP;
	return exchange(fd, r, each, arg);
}
