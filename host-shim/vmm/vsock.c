#include "vsock.h"

#include "iov.h"
#include "proto/cleanup.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Packets per turn and direction: then the other descriptors get their turn. */
#define BUDGET 128

/* Host ports of connections that clients open: far from those that guests dial. */
#define FIRST_HOST_PORT 0x40000000u

static void pump_rx(struct loop_task *t);
static void pump_tx(struct loop_task *t);

static void fail(struct vsock *dev, const struct err *e)
{
	dev->broken = true;
	loop_cancel(dev->owner.loop, &dev->rx_task);
	loop_cancel(dev->owner.loop, &dev->tx_task);
	dev->ops->failed(dev, e);
}

static void want_rx(struct vsock *dev)
{
	if (!dev->broken && dev->queue[VSOCK_RX].running && (dev->turn || dev->rst_n > 0))
		loop_defer(dev->owner.loop, &dev->rx_task, pump_rx);
}

static void interrupt(struct vsock_queue *q)
{
	/* EAGAIN would mean a counter of 2^64 - 2; a closed QEMU is noticed elsewhere. */
	if (vring_should_notify(&q->ring) && q->call_fd >= 0)
		(void)!eventfd_write(q->call_fd, 1);
}

/* ---- the table ---- */

static struct conn **bucket(struct vsock *dev, uint32_t host_port, uint32_t guest_port)
{
	uint64_t key = ((uint64_t)host_port << 32 | guest_port) * 0x9e3779b97f4a7c15ull;
	return &dev->bucket[key >> 54];
}

static struct conn *find(struct vsock *dev, uint32_t host_port, uint32_t guest_port)
{
	struct conn *c = *bucket(dev, host_port, guest_port);
	while (c && (c->host_port != host_port || c->guest_port != guest_port))
		c = c->hash_next;
	return c;
}

static void insert(struct vsock *dev, struct conn *c)
{
	struct conn **at = bucket(dev, c->host_port, c->guest_port);
	c->hash_next = *at;
	*at = c;
	c->in_table = true;
	c->all_next = dev->all;
	if (dev->all)
		dev->all->all_prev = c;
	dev->all = c;
	dev->n_conns++;
}

static void free_ports(struct vsock *dev, struct conn *c)
{
	if (!c->in_table)
		return;
	struct conn **at = bucket(dev, c->host_port, c->guest_port);
	while (*at != c)
		at = &(*at)->hash_next;
	*at = c->hash_next;
	c->in_table = false;
}

static void forget(struct vsock *dev, struct conn *c)
{
	free_ports(dev, c);
	*(c->all_prev ? &c->all_prev->all_next : &dev->all) = c->all_next;
	if (c->all_next)
		c->all_next->all_prev = c->all_prev;
	dev->n_conns--;
	conn_destroy(c);
}

static void take_turn(struct vsock *dev, struct conn *c)
{
	if (c->in_turn)
		return;
	c->in_turn = true;
	c->turn_next = NULL;
	*dev->turn_end = c;
	dev->turn_end = &c->turn_next;
}

static struct conn *next_turn(struct vsock *dev)
{
	struct conn *c = dev->turn;
	dev->turn = c->turn_next;
	if (!dev->turn)
		dev->turn_end = &dev->turn;
	c->in_turn = false;
	return c;
}

/* A dead connection takes a last turn too: it is destroyed there, when nobody up the stack uses it. */
static void conn_changed(struct conn_owner *owner, struct conn *c)
{
	struct vsock *dev = container_of(owner, struct vsock, owner);
	if (c->state == CONN_DRAINING || c->state == CONN_GONE)
		free_ports(dev, c);
	if (c->state == CONN_GONE || conn_has_packet(c)) {
		take_turn(dev, c);
		want_rx(dev);
	}
}

static void owe_rst(struct vsock *dev, const struct vsock_hdr *to)
{
	if (to->op == VSOCK_OP_RST || dev->rst_n == VSOCK_RSTS_MAX)
		return;
	dev->rst[(dev->rst_at + dev->rst_n++) % VSOCK_RSTS_MAX] =
		(struct vsock_rst){.host_port = to->dst_port, .guest_port = to->src_port, .type = to->type};
	want_rx(dev);
}

static struct conn *open_conn(struct vsock *dev, int fd, uint32_t host_port, uint32_t guest_port,
			      bool accepting)
{
	struct conn *c = conn_create(&dev->owner, fd, host_port, guest_port, accepting);
	if (c) {
		insert(dev, c);
		conn_changed(&dev->owner, c);
	}
	return c;
}

int vsock_connect(struct vsock *dev, int fd, uint32_t guest_port)
{
	_cleanup_close_ int client = fd;
	if (dev->broken || !dev->queue[VSOCK_RX].running || !dev->queue[VSOCK_TX].running)
		return -ECONNREFUSED;
	if (dev->n_conns >= dev->max_conns)
		return -ENOBUFS;
	do
		dev->next_port = dev->next_port == UINT32_MAX ? FIRST_HOST_PORT : dev->next_port + 1;
	while (find(dev, dev->next_port, guest_port));
	return open_conn(dev, steal_fd(&client), dev->next_port, guest_port, false) ? 0 : -errno;
}

/* ---- from the guest ---- */

static void accept_guest(struct vsock *dev, const struct vsock_hdr *hdr)
{
	int fd = dev->n_conns < dev->max_conns ? dev->ops->dial(dev, hdr->dst_port) : -ENOBUFS;
	struct conn *c = fd < 0 ? NULL : open_conn(dev, fd, hdr->dst_port, hdr->src_port, true);
	if (c)
		conn_take_credit(c, hdr);
	else
		owe_rst(dev, hdr);
}

static void receive_packet(struct vsock *dev, const struct vsock_hdr *hdr, struct iovec *iov, unsigned n)
{
	/* Packets in another's name are dropped without an answer, which would only go to a stranger. */
	if (hdr->src_cid != dev->owner.guest_cid || hdr->dst_cid != VSOCK_HOST_CID)
		return;
	if (hdr->type != VSOCK_TYPE_STREAM) {
		owe_rst(dev, hdr);
		return;
	}
	struct conn *c = find(dev, hdr->dst_port, hdr->src_port);
	if (c && hdr->op == VSOCK_OP_RW && hdr->len > iov_length(iov, n))
		conn_abort(c);
	else if (c)
		conn_receive(c, hdr, iov, n);
	else if (hdr->op == VSOCK_OP_REQUEST)
		accept_guest(dev, hdr);
	else
		owe_rst(dev, hdr);
}

static void pump_tx(struct loop_task *t)
{
	struct vsock *dev = container_of(t, struct vsock, tx_task);
	struct vsock_queue *q = &dev->queue[VSOCK_TX];
	struct vring_chain chain;
	struct err e = {0};
	if (!q->running)
		return;

	int left = BUDGET;
	for (; left > 0; left--) {
		int r = vring_peek(&q->ring, &dev->mem, &chain, &e);
		if (r < 0) {
			fail(dev, &e);
			return;
		}
		if (r == 0) {
			if (!vring_arm(&q->ring))
				break;
			continue;
		}
		struct vsock_hdr hdr;
		unsigned n = chain.n_out;
		if (chain.n_in > 0 || iov_read(chain.iov, n, &hdr, sizeof hdr) < sizeof hdr) {
			err_set(&e, "vsock", EPROTO, "tx chain of %zu readable and %zu writable bytes",
				chain.out_len, chain.in_len);
			fail(dev, &e);
			return;
		}
		struct iovec *payload = iov_skip(chain.iov, &n, sizeof hdr);
		receive_packet(dev, &hdr, payload, n);
		vring_complete(&q->ring, &chain, 0);
	}
	interrupt(q);
	if (left == 0)
		loop_defer(dev->owner.loop, t, pump_tx);
}

/* ---- to the guest ---- */

static void next_rst(struct vsock *dev, struct vsock_hdr *hdr)
{
	const struct vsock_rst *rst = &dev->rst[dev->rst_at];
	dev->rst_at = (dev->rst_at + 1) % VSOCK_RSTS_MAX;
	dev->rst_n--;
	*hdr = (struct vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = dev->owner.guest_cid,
		.src_port = rst->host_port,
		.dst_port = rst->guest_port,
		.type = rst->type,
		.op = VSOCK_OP_RST,
	};
}

/* One packet of the connection whose turn it is. False if it had none after all. */
static bool next_packet(struct vsock *dev, struct vsock_hdr *hdr, struct iovec *iov, unsigned n)
{
	struct conn *c = next_turn(dev);
	bool got = c->state != CONN_GONE && conn_next_packet(c, hdr, iov, n);
	if (c->state == CONN_GONE)
		forget(dev, c);
	else if (conn_has_packet(c))
		take_turn(dev, c);
	return got;
}

static void pump_rx(struct loop_task *t)
{
	struct vsock *dev = container_of(t, struct vsock, rx_task);
	struct vsock_queue *q = &dev->queue[VSOCK_RX];
	struct vring_chain chain;
	struct err e = {0};
	if (!q->running)
		return;

	int left = BUDGET;
	for (; left > 0 && (dev->turn || dev->rst_n > 0); left--) {
		int r = vring_peek(&q->ring, &dev->mem, &chain, &e);
		/* A buffer without room for payload would make a connection with data take turns for ever. */
		if (r > 0 && (chain.n_out > 0 || chain.in_len <= VSOCK_HDR_SIZE))
			r = err_set(&e, "vsock", EPROTO, "rx chain of %zu readable and %zu writable bytes",
				    chain.out_len, chain.in_len);
		if (r < 0) {
			fail(dev, &e);
			return;
		}
		if (r == 0) {
			if (!vring_arm(&q->ring))
				break;
			continue;
		}
		struct vsock_hdr hdr;
		struct iovec payload[VRING_IOV_MAX];
		unsigned n = 0;
		if (dev->rst_n > 0) {
			next_rst(dev, &hdr);
		} else {
			n = chain.n_in;
			for (unsigned i = 0; i < n; i++)
				payload[i] = chain.iov[i];
			struct iovec *room = iov_skip(payload, &n, VSOCK_HDR_SIZE);
			if (!next_packet(dev, &hdr, room, n))
				continue;
		}
		iov_write(chain.iov, chain.n_in, &hdr, sizeof hdr);
		vring_complete(&q->ring, &chain, VSOCK_HDR_SIZE + hdr.len);
	}
	interrupt(q);
	if (left == 0)
		want_rx(dev);
}

/* ---- life ---- */

void vsock_kick(struct vsock *dev, unsigned q)
{
	if (dev->broken)
		return;
	if (q == VSOCK_TX)
		loop_defer(dev->owner.loop, &dev->tx_task, pump_tx);
	else
		want_rx(dev);
}

void vsock_init(struct vsock *dev, struct loop *loop, const struct vsock_ops *ops, uint64_t guest_cid,
		unsigned max_conns)
{
	*dev = (struct vsock){
		.owner = {.loop = loop, .guest_cid = guest_cid, .changed = conn_changed},
		.ops = ops,
		.max_conns = max_conns < VSOCK_CONNS_MAX ? max_conns : VSOCK_CONNS_MAX,
		.next_port = FIRST_HOST_PORT - 1,
	};
	dev->turn_end = &dev->turn;
	memtable_init(&dev->mem);
	for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
		vring_init(&dev->queue[i].ring);
		dev->queue[i].call_fd = -1;
	}
}

void vsock_reset(struct vsock *dev)
{
	dev->turn = NULL;
	dev->turn_end = &dev->turn;
	dev->rst_n = 0;
	while (dev->all)
		forget(dev, dev->all);
}

void vsock_finish(struct vsock *dev)
{
	vsock_reset(dev);
	loop_cancel(dev->owner.loop, &dev->rx_task);
	loop_cancel(dev->owner.loop, &dev->tx_task);
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		close_fd(&dev->queue[i].call_fd);
	memtable_finish(&dev->mem);
}
