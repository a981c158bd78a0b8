#include "peer.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/cleanup.h"

static int unix_peer(int fd, uid_t *out)
{
	struct ucred c;
	socklen_t len = sizeof c;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0)
		return -errno;
	*out = c.uid;
	return 0;
}

static int put_address(const struct sockaddr_storage *a, __be32 out[4], __be16 *port)
{
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *four = (const void *)a;
		out[0] = four->sin_addr.s_addr;
		*port = four->sin_port;
		return ntohl(out[0]) >> 24 == 127 ? 0 : -ENOENT;
	}
	const struct sockaddr_in6 *six = (const void *)a;
	memcpy(out, &six->sin6_addr, 16);
	*port = six->sin6_port;
	return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) ? 0 : -ENOENT;
}

/* One exact question, which the kernel answers before send returns. */
static int ask(const struct inet_diag_req_v2 *query, uid_t *out)
{
	_cleanup_close_ int nl = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 query;
	} m = {.head = {.nlmsg_len = sizeof m,
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST},
	       .query = *query};
	union {
		struct nlmsghdr head;
		char bytes[8192];
	} answer;
	if (nl < 0 || send(nl, &m, sizeof m, 0) < 0)
		return -errno;
	ssize_t n = recv(nl, &answer, sizeof answer, MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if (n >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) && answer.head.nlmsg_type == NLMSG_ERROR)
		return ((const struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
	if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) ||
	    answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -EPROTO;
	const struct inet_diag_msg *d = NLMSG_DATA(&answer.head);
	/* A socket that was closed already is nobody's, and shows as root's. */
	if (!d->idiag_inode)
		return -ENOENT;
	*out = d->idiag_uid;
	return 0;
}

int peer_uid(int fd, uid_t *out)
{
	struct sockaddr_storage here, there;
	socklen_t here_len = sizeof here, there_len = sizeof there;
	if (getsockname(fd, (struct sockaddr *)&here, &here_len) < 0)
		return -errno;
	if (here.ss_family == AF_UNIX)
		return unix_peer(fd, out);
	if (getpeername(fd, (struct sockaddr *)&there, &there_len) < 0)
		return -errno;
	if ((here.ss_family != AF_INET && here.ss_family != AF_INET6) || there.ss_family != here.ss_family)
		return -ENOENT;
	struct inet_diag_req_v2 q = {.sdiag_family = (uint8_t)here.ss_family,
				     .sdiag_protocol = IPPROTO_TCP,
				     .idiag_states = UINT32_MAX,
				     .id.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}};
	/* Seen from there. */
	int r = put_address(&there, q.id.idiag_src, &q.id.idiag_sport);
	if (r == 0)
		r = put_address(&here, q.id.idiag_dst, &q.id.idiag_dport);
	return r < 0 ? r : ask(&q, out);
}
