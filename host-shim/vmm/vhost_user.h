/* The back end of the vhost-user protocol for one device: QEMU's messages on a socket that both inherited
 * set up the guest's memory and the two queues of a struct vsock (QEMU docs/interop/vhost-user).
 * QEMU runs hostile guests, so its messages are checked like theirs. Any error ends the session. */
#pragma once

#include "loop.h"
#include "proto/err.h"
#include "vsock.h"

#include <stdint.h>

#define VHOST_USER_FDS_MAX 8
#define VHOST_USER_PAYLOAD_MAX 512

struct vhost_user_hdr {
	uint32_t request, flags, size;
};

struct vhost_user;

/* What belongs to a queue besides its ring. */
struct vhost_user_queue {
	struct vhost_user *vu;
	unsigned index;
	struct loop_source kick;
	int kick_fd;
	uint16_t stopped_at; /* ring index told by GET_VRING_BASE */
	bool enabled;
};

struct vhost_user {
	struct loop *loop;
	struct vsock *dev;
	int fd;
	struct loop_source sock;
	struct vhost_user_queue queue[VSOCK_QUEUES];
	uint64_t features, protocol_features;
	bool features_set;

	/* The message being received. */
	struct vhost_user_hdr hdr;
	_Alignas(8) uint8_t payload[VHOST_USER_PAYLOAD_MAX];
	size_t got; /* of header and payload together */
	int fds[VHOST_USER_FDS_MAX];
	unsigned n_fds;

	/* The session is over: *e says why. The device's queues have stopped. */
	void (*ended)(struct vhost_user *vu, const struct err *e);
};

/* Takes over fd, a stream socket. 0 or -errno from epoll_ctl(2). */
int vhost_user_init(struct vhost_user *vu, struct loop *loop, struct vsock *dev, int fd,
		    void (*ended)(struct vhost_user *, const struct err *));
void vhost_user_finish(struct vhost_user *vu);
