/* The virtio-vsock device (virtio 1.2, §5.10): two queues, and the connections that go through them.
 * The third queue, events, stays in QEMU. vhost_user.c sets the queues up; this file moves packets. */
#pragma once

#include "loop.h"
#include "memtable.h"
#include "vring.h"
#include "vsock_conn.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_QUEUES };

#define VSOCK_CONNS_MAX 4096
#define VSOCK_BUCKETS 1024
/* RSTs for packets of connections that do not exist, waiting for buffers. More than that is dropped: the
 * guest that sent all of them runs into its own timeouts. */
#define VSOCK_RSTS_MAX 256

struct vsock_queue {
	struct vring ring;
	int call_fd; /* eventfd: interrupts the guest; -1: the guest polls */
	bool running;
};

struct vsock;

struct vsock_ops {
	/* The guest dials host port `port`: a connected non-blocking stream socket, or -errno. */
	int (*dial)(struct vsock *dev, uint32_t port);
	/* A ring is broken: the device has stopped for good. */
	void (*failed)(struct vsock *dev, const struct err *e);
};

struct vsock_rst {
	uint32_t host_port, guest_port;
	uint16_t type;
};

struct vsock {
	struct conn_owner owner;
	const struct vsock_ops *ops;
	struct memtable mem;
	struct vsock_queue queue[VSOCK_QUEUES];
	struct loop_task rx_task, tx_task;
	bool broken;

	struct conn *bucket[VSOCK_BUCKETS];
	struct conn *all;
	unsigned n_conns, max_conns;
	uint32_t next_port;

	struct conn *turn, **turn_end; /* connections with packets for the guest, served in turn */
	struct vsock_rst rst[VSOCK_RSTS_MAX];
	unsigned rst_at, rst_n;
};

/* max_conns: at most VSOCK_CONNS_MAX; what the caller's limit on fds allows. */
void vsock_init(struct vsock *dev, struct loop *loop, const struct vsock_ops *ops, uint64_t guest_cid,
		unsigned max_conns);
void vsock_finish(struct vsock *dev);

/* Connects a client to a guest port. Takes over fd (non-blocking) in every case. -ECONNREFUSED: the guest's
 * driver is not there (yet); -ENOBUFS: too many connections; else from conn_create. */
int vsock_connect(struct vsock *dev, int fd, uint32_t guest_port);

/* The guest says that queue q has new buffers. */
void vsock_kick(struct vsock *dev, unsigned q);

/* Closes all connections without a word to the guest: its driver started anew. */
void vsock_reset(struct vsock *dev);
