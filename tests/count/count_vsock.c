/* usage: count_vsock in|out N     N packets of 4 KiB through the vsock device: to the guest, or from it. The
 * guest is this program: it fills the rings as a driver does, and the client is a socket pair. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host-shim/vmm/vsock.h"

#define NUM 16
#define BODY 4096
#define PACKET (VSOCK_HDR_SIZE + BODY)
#define RING(q) (0x4000u * (q)) /* descriptors, 0x1000 on what is available, 0x2000 on what was used */
#define BUFFER(i) (0x10000u + 0x2000u * (i))
#define MEMORY (BUFFER(2 * NUM))
#define CID 3
enum { WRITE = 2 };

static uint8_t *mem;
static struct loop loop;
static struct vsock dev;
static uint16_t seen[VSOCK_QUEUES];

static void check(int ok)
{
	if (!ok)
		abort();
}

static int dial(struct vsock *d, uint32_t port)
{
	(void)d;
	(void)port;
	return -1;
}

static void failed(struct vsock *d, const struct err *e)
{
	(void)d;
	(void)e;
	abort();
}

static uint16_t *part(int q, unsigned at)
{
	return (uint16_t *)(void *)(mem + RING((unsigned)q) + at);
}

/* One buffer of queue q for the device. */
static void offer(int q, uint32_t len)
{
	uint16_t *avail = part(q, 0x1000), i = avail[1] % NUM;
	struct vring_desc *d = (struct vring_desc *)(void *)part(q, 0) + i;
	*d = (struct vring_desc){BUFFER((unsigned)(q * NUM + i)), len, q == VSOCK_RX ? WRITE : 0, 0};
	avail[2 + i] = i;
	avail[1]++;
}

static void make_memory(void)
{
	struct err e;
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(ftruncate(fd, MEMORY) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	struct memtable_region all = {.size = MEMORY, .user_addr = MEMORY};
	check(memtable_set(&dev.mem, &all, &fd, 1, &e) == 0);
	mem = dev.mem.region[0].host;
	for (unsigned q = 0; q < VSOCK_QUEUES; q++) {
		struct vring *vr = &dev.queue[q].ring;
		vr->addr = (struct vring_addr){MEMORY + RING(q), MEMORY + RING(q) + 0x1000,
					       MEMORY + RING(q) + 0x2000};
		vr->event_idx = true;
		check(vring_set_size(vr, NUM, &e) == 0 && vring_map(vr, &dev.mem, &e) == 0);
		dev.queue[q].running = true;
	}
}

static void turn(int q)
{
	vsock_kick(&dev, (unsigned)q);
	check(loop_turn(&loop, 0) == 0);
}

/* A packet of the guest's. */
static void send_packet(enum vsock_op op, uint32_t host_port, uint32_t len, uint32_t taken)
{
	uint8_t *at = mem + BUFFER((unsigned)(VSOCK_TX * NUM + part(VSOCK_TX, 0x1000)[1] % NUM));
	struct vsock_hdr h = {.src_cid = CID,
			      .dst_cid = VSOCK_HOST_CID,
			      .src_port = 1000,
			      .dst_port = host_port,
			      .len = len,
			      .type = VSOCK_TYPE_STREAM,
			      .op = (uint16_t)op,
			      .buf_alloc = 1 << 20,
			      .fwd_cnt = taken};
	memcpy(at, &h, sizeof h);
	offer(VSOCK_TX, (uint32_t)sizeof h + len);
	turn(VSOCK_TX);
}

/* Until the device has used another buffer of the guest's; its header. */
static struct vsock_hdr receive_packet(void)
{
	struct vsock_hdr h;
	offer(VSOCK_RX, PACKET);
	for (int i = 0; i < 10 && part(VSOCK_RX, 0x2000)[1] == seen[VSOCK_RX]; i++)
		turn(VSOCK_RX);
	check(part(VSOCK_RX, 0x2000)[1] != seen[VSOCK_RX]);
	memcpy(&h, mem + BUFFER(seen[VSOCK_RX]++ % NUM), sizeof h);
	return h;
}

int main(int argc, char **argv)
{
	static const struct vsock_ops ops = {dial, failed};
	static uint8_t body[BODY];
	int pair[2], in = argc == 3 && strcmp(argv[1], "in") == 0, n = argc == 3 ? atoi(argv[2]) : 0;
	check(loop_init(&loop) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	vsock_init(&dev, &loop, &ops, CID, 16);
	make_memory();
	check(vsock_connect(&dev, pair[1], 1000) == 0);
	struct vsock_hdr request = receive_packet();
	check(request.op == VSOCK_OP_REQUEST);
	send_packet(VSOCK_OP_RESPONSE, request.src_port, 0, 0);
	check(read(pair[0], body, sizeof body) > 0); /* OK <port> */

	uint32_t taken = 0;
	for (int i = 0; i < n; i++) {
		if (in) {
			check(write(pair[0], body, BODY) == BODY);
			struct vsock_hdr h = receive_packet();
			check(h.op == VSOCK_OP_RW && h.len == BODY);
			taken += h.len;
			if (taken % (64 * BODY) == 0)
				send_packet(VSOCK_OP_CREDIT_UPDATE, request.src_port, 0, taken);
		} else {
			send_packet(VSOCK_OP_RW, request.src_port, BODY, 0);
			check(read(pair[0], body, BODY) == BODY);
			while (dev.turn)
				receive_packet(); /* the credit that it gives */
		}
	}
	vsock_finish(&dev);
	return 0;
}
