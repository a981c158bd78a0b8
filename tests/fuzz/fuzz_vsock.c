/* A hostile guest and hostile clients against the vsock device. The input is a program: it writes guest
 * memory and rings as it likes, or well-formed packets with odd contents, and plays the clients. Besides what
 * the sanitizers see, no connection may hold more than its window. */
#include "host-shim/vmm/loop.h"
#include "host-shim/vmm/vsock.h"
#include "proto/cleanup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define MEM_SIZE 0x20000u
#define MEM_USER 0x100000u
#define NUM 16
#define RING(q) (0x1000u * (q))
#define DESC(q) RING(q)
#define AVAIL(q) (RING(q) + 0x400)
#define USED(q) (RING(q) + 0x800)
#define BUFFERS 0x4000u
#define CID 3
#define CLIENTS 16
#define CONNS_MAX 12

struct fuzz {
	const uint8_t *in;
	size_t left;
	struct loop loop;
	struct vsock dev;
	uint8_t *mem;
	int client[CLIENTS];
	unsigned packets[VSOCK_QUEUES]; /* offered by put_chain, for its choice of descriptors */
	bool broken;
};

static struct fuzz f;

static uint32_t take(unsigned bytes)
{
	uint32_t v = 0;
	for (; bytes > 0 && f.left > 0; bytes--, f.left--)
		v = v << 8 | *f.in++;
	return v;
}

/* A client with a small socket buffer, so that backlogs happen. */
static int new_client(void)
{
	int pair[2], small = 4096;
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (f.client[i] >= 0)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
			abort();
		setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
		f.client[i] = pair[0];
		return pair[1];
	}
	return -ENOENT;
}

static int dial(struct vsock *dev, uint32_t port)
{
	(void)dev;
	return port % 4 == 3 ? -ECONNREFUSED : new_client();
}

static void failed(struct vsock *dev, const struct err *e)
{
	(void)dev;
	if (e->errnum == 0 || !e->msg[0])
		abort();
	f.broken = true;
}

static void put16(uint32_t at, uint16_t v)
{
	memcpy(f.mem + at, &v, sizeof v);
}

static uint16_t get16(uint32_t at)
{
	uint16_t v;
	memcpy(&v, f.mem + at, sizeof v);
	return v;
}

static void put_chain(unsigned q, uint32_t addr, uint32_t len, uint16_t flags)
{
	unsigned slot = f.packets[q]++ % NUM;
	struct vring_desc d = {addr, len, flags, 0};
	memcpy(f.mem + DESC(q) + 16 * slot, &d, sizeof d);
	uint16_t idx = get16(AVAIL(q) + 2);
	put16(AVAIL(q) + 4 + 2 * (idx % NUM), (uint16_t)slot);
	put16(AVAIL(q) + 2, (uint16_t)(idx + 1));
	vsock_kick(&f.dev, q);
}

static void send_packet(void)
{
	uint32_t addr = BUFFERS + 0x800 * (f.packets[VSOCK_TX] % NUM);
	uint32_t payload = take(2);
	struct conn *c = f.dev.all;
	for (unsigned skip = take(1) % 4; c && skip > 0; skip--)
		c = c->all_next;
	bool known = c && take(1) % 4;
	struct vsock_hdr hdr = {
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = known ? c->guest_port : take(1),
		.dst_port = known ? c->host_port : take(1),
		.len = payload,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)take(1) % 9,
		.flags = take(1) % 5,
		.buf_alloc = take(2) << take(1) % 17,
		.fwd_cnt = known ? c->credit.tx_cnt - take(1) : take(4),
	};
	memcpy(f.mem + addr, &hdr, sizeof hdr);
	put_chain(VSOCK_TX, addr, VSOCK_HDR_SIZE + payload, 0);
}

static void use_client(unsigned what)
{
	static uint8_t bytes[65536];
	int *fd = &f.client[take(1) % CLIENTS];
	if (*fd < 0)
		return;
	if (what == 0)
		(void)!send(*fd, bytes, take(2), MSG_NOSIGNAL);
	else if (what == 1)
		(void)!recv(*fd, bytes, take(2), 0);
	else if (what == 2)
		shutdown(*fd, (int)(take(1) % 3));
	else
		close_fd(fd);
}

static void step(void)
{
	uint32_t n;
	switch (take(1) % 12) {
	case 0: /* anything anywhere in guest memory */
		n = take(3) % MEM_SIZE;
		for (unsigned len = take(1) % 64; len > 0 && n < MEM_SIZE; len--)
			f.mem[n++] = (uint8_t)take(1);
		break;
	case 1: /* anything in the rings */
		n = RING(take(1) % 2) + take(2) % 0x1000;
		f.mem[n] = (uint8_t)take(1);
		break;
	case 2:
	case 3:
		send_packet();
		break;
	case 4:
		n = f.packets[VSOCK_RX] % NUM;
		put_chain(VSOCK_RX, BUFFERS + 0x8000 + 0x800 * n, take(1) % 8 ? 1500 : 45, 2 /* writable */);
		break;
	case 5:
		put_chain(take(1) % 2, take(3), take(3), (uint16_t)(take(1) % 8));
		break;
	case 6:
		n = take(1);
		int fd = new_client();
		if (fd >= 0)
			vsock_connect(&f.dev, fd, n);
		break;
	case 7:
		use_client(0);
		break;
	case 8:
		use_client(1);
		break;
	case 9:
		use_client(2 + take(1) % 2);
		break;
	case 10: /* time passes */
		for (struct loop_timer *t = f.loop.timers.next; t != &f.loop.timers; t = t->next)
			t->at_ms = 0;
		break;
	case 11:
		for (unsigned q = 0; q < VSOCK_QUEUES; q++)
			vsock_kick(&f.dev, q);
		break;
	}
}

static void check(void)
{
	unsigned n = 0;
	for (struct conn *c = f.dev.all; c; c = c->all_next, n++)
		if (c->backlog_len > CREDIT_WINDOW || (c->backlog_len > 0) != (c->backlog != NULL))
			abort();
	if (n != f.dev.n_conns || n > CONNS_MAX)
		abort();
}

static void start(void)
{
	static const struct vsock_ops ops = {.dial = dial, .failed = failed};
	struct err e;
	_cleanup_close_ int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct memtable_region all = {.size = MEM_SIZE, .user_addr = MEM_USER};
	if (fd < 0 || ftruncate(fd, MEM_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
	    loop_init(&f.loop) < 0)
		abort();
	vsock_init(&f.dev, &f.loop, &ops, CID, CONNS_MAX);
	if (memtable_set(&f.dev.mem, &all, &fd, 1, &e) < 0)
		abort();
	f.mem = f.dev.mem.region[0].host;
	for (unsigned q = 0; q < VSOCK_QUEUES; q++) {
		struct vring *ring = &f.dev.queue[q].ring;
		ring->addr = (struct vring_addr){MEM_USER + DESC(q), MEM_USER + AVAIL(q), MEM_USER + USED(q)};
		ring->event_idx = f.left > 0 && f.in[0] & 1;
		ring->indirect = f.left > 0 && f.in[0] & 2;
		if (vring_set_size(ring, NUM, &e) < 0 || vring_map(ring, &f.dev.mem, &e) < 0)
			abort();
		f.dev.queue[q].running = true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	signal(SIGPIPE, SIG_IGN); /* as main() does */
	f = (struct fuzz){.in = data, .left = size};
	for (unsigned i = 0; i < CLIENTS; i++)
		f.client[i] = -1;
	start();
	take(1);
	while (f.left > 0 && !f.broken) {
		step();
		if (loop_turn(&f.loop, 0) < 0)
			abort();
		check();
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		close_fd(&f.client[i]);
	for (int turns = 0; turns < 4; turns++)
		loop_turn(&f.loop, 0);
	vsock_finish(&f.dev);
	loop_finish(&f.loop);
	return 0;
}
