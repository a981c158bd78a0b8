#include "vhost_user.h"

#include "proto/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
	REQUESTS,
};

enum { VERSION_MASK = 3, VERSION = 1, FLAG_REPLY = 4, FLAG_NEED_REPLY = 8 };

#define F_INDIRECT (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_PROTOCOL_FEATURES (1ull << 30)
#define F_VERSION_1 (1ull << 32)
#define FEATURES (F_INDIRECT | F_EVENT_IDX | F_PROTOCOL_FEATURES | F_VERSION_1)

#define P_REPLY_ACK (1ull << 3)
#define P_CONFIG (1ull << 9)
#define PROTOCOL_FEATURES (P_REPLY_ACK | P_CONFIG)

#define VRING_INDEX_MASK 0xff
#define VRING_NO_FD 0x100

struct state_payload {
	uint32_t index, num;
};

struct addr_payload {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct mem_payload {
	uint32_t n, padding;
	struct {
		uint64_t guest_addr, size, user_addr, mmap_offset;
	} region[MEMTABLE_REGIONS_MAX];
};

struct config_payload {
	uint32_t offset, size, flags;
	uint8_t bytes[256];
};

#define CONFIG_HEAD offsetof(struct config_payload, bytes)

_Static_assert(sizeof(struct mem_payload) <= VHOST_USER_PAYLOAD_MAX, "a full memory table fits");
_Static_assert(sizeof(struct config_payload) <= VHOST_USER_PAYLOAD_MAX, "a full config message fits");

static int bad(struct err *e, const char *what)
{
	return err_set(e, "vhost_user", EPROTO, "%s", what);
}

/* ---- queues ---- */

static void pause_queue(struct vhost_user_queue *q)
{
	q->vu->dev->queue[q->index].running = false;
	loop_remove(q->vu->loop, &q->kick);
}

static void stop_queue(struct vhost_user_queue *q)
{
	pause_queue(q);
	close_fd(&q->kick_fd);
}

static void kicked(struct loop_source *src, uint32_t events)
{
	struct vhost_user_queue *q = container_of(src, struct vhost_user_queue, kick);
	(void)events;
	vsock_kick(q->vu->dev, q->index);
}

static int start_if_complete(struct vhost_user_queue *q, struct err *e)
{
	struct vhost_user *vu = q->vu;
	struct vsock_queue *queue = &vu->dev->queue[q->index];
	bool enabled = q->enabled || !(vu->features & F_PROTOCOL_FEATURES);
	if (queue->running || !enabled || q->kick_fd < 0)
		return 0;
	if (!vu->features_set || vu->dev->mem.n == 0)
		return bad(e, "a queue starts before features and memory are set");

	queue->ring.event_idx = vu->features & F_EVENT_IDX;
	queue->ring.indirect = vu->features & F_INDIRECT;
	int r = vring_map(&queue->ring, &vu->dev->mem, e);
	if (r < 0)
		return r;
	/* After a mere pause the ring goes on where it stood; anything else is a new driver. */
	if (queue->ring.last_avail != q->stopped_at)
		vsock_reset(vu->dev);
	/* Edge-triggered and never read: each write to the eventfd is an edge, and saves us the read. */
	r = loop_add(vu->loop, &q->kick, q->kick_fd, EPOLLIN | EPOLLET, kicked);
	if (r < 0)
		return err_sys(e, "vhost_user", -r, "epoll_ctl of a kick fd");
	queue->running = true;
	/* Buffers may have come before anybody watched. */
	vring_arm(&queue->ring);
	vsock_kick(vu->dev, q->index);
	return 0;
}

/* NULL with *e set if there is no such queue. */
static struct vhost_user_queue *pick_queue(struct vhost_user *vu, uint64_t index, struct err *e)
{
	if (index < VSOCK_QUEUES)
		return &vu->queue[index];
	bad(e, "queue index out of range");
	return NULL;
}

/* As pick_queue, for messages that would pull the ring from under a running queue. */
static struct vhost_user_queue *pick_idle_queue(struct vhost_user *vu, uint64_t index, struct err *e)
{
	struct vhost_user_queue *q = pick_queue(vu, index, e);
	if (!q || !vu->dev->queue[index].running)
		return q;
	bad(e, "a running queue is set up again");
	return NULL;
}

/* ---- messages ---- */

static int reply(struct vhost_user *vu, const void *payload, uint32_t size, struct err *e)
{
	struct vhost_user_hdr hdr = {vu->hdr.request, VERSION | FLAG_REPLY, size};
	struct iovec iov[2] = {{&hdr, sizeof hdr}, {(void *)payload, size}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	/* QEMU waits for each reply, so the socket is empty; if not, it is not QEMU that we talk to. */
	ssize_t n = sendmsg(vu->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return err_sys(e, "vhost_user", errno, "sending a reply");
	return (size_t)n == sizeof hdr + size ? 0 : bad(e, "a reply was cut short");
}

static uint64_t payload_u64(const struct vhost_user *vu)
{
	uint64_t v;
	memcpy(&v, vu->payload, sizeof v);
	return v;
}

static struct state_payload payload_state(const struct vhost_user *vu)
{
	struct state_payload s;
	memcpy(&s, vu->payload, sizeof s);
	return s;
}

static int get_features(struct vhost_user *vu, struct err *e)
{
	return reply(vu, &(uint64_t){FEATURES}, sizeof(uint64_t), e);
}

static int set_features(struct vhost_user *vu, struct err *e)
{
	uint64_t f = payload_u64(vu);
	if (f & ~FEATURES)
		return bad(e, "features that were not offered");
	if (!(f & F_VERSION_1))
		return bad(e, "the guest's driver is a legacy one (no VERSION_1)");
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		if (vu->dev->queue[i].running)
			return bad(e, "features change under a running queue");
	vu->features = f;
	vu->features_set = true;
	return 0;
}

static int get_protocol_features(struct vhost_user *vu, struct err *e)
{
	return reply(vu, &(uint64_t){PROTOCOL_FEATURES}, sizeof(uint64_t), e);
}

static int set_protocol_features(struct vhost_user *vu, struct err *e)
{
	uint64_t f = payload_u64(vu);
	if (f & ~PROTOCOL_FEATURES)
		return bad(e, "protocol features that were not offered");
	vu->protocol_features = f;
	return 0;
}

/* A front end begins: the first one, or QEMU's next after the device was unplugged. */
static int set_owner(struct vhost_user *vu, struct err *e)
{
	(void)e;
	for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
		stop_queue(&vu->queue[i]);
		vu->queue[i].enabled = false;
	}
	vu->features_set = false;
	vsock_reset(vu->dev);
	return 0;
}

static int set_mem_table(struct vhost_user *vu, struct err *e)
{
	struct mem_payload m;
	struct memtable_region regions[MEMTABLE_REGIONS_MAX];
	memcpy(&m, vu->payload, sizeof m);
	if (m.n > MEMTABLE_REGIONS_MAX || m.n != vu->n_fds ||
	    vu->hdr.size < offsetof(struct mem_payload, region) + m.n * sizeof m.region[0])
		return bad(e, "memory table, its size and its fds do not match");
	for (unsigned i = 0; i < m.n; i++)
		regions[i] = (struct memtable_region){m.region[i].guest_addr, m.region[i].size,
						      m.region[i].user_addr, m.region[i].mmap_offset};
	int r = memtable_set(&vu->dev->mem, regions, vu->fds, m.n, e);
	/* QEMU moves regions under a running device (firmware shadowing): the rings' pointers are stale. */
	for (unsigned i = 0; i < VSOCK_QUEUES && r == 0; i++)
		if (vu->dev->queue[i].running)
			r = vring_map(&vu->dev->queue[i].ring, &vu->dev->mem, e);
	return r;
}

static int set_vring_num(struct vhost_user *vu, struct err *e)
{
	struct state_payload s = payload_state(vu);
	struct vhost_user_queue *q = pick_idle_queue(vu, s.index, e);
	return q ? vring_set_size(&vu->dev->queue[s.index].ring, s.num, e) : -EPROTO;
}

static int set_vring_addr(struct vhost_user *vu, struct err *e)
{
	struct addr_payload a;
	memcpy(&a, vu->payload, sizeof a);
	struct vhost_user_queue *q = pick_idle_queue(vu, a.index, e);
	if (!q)
		return -EPROTO;
	if (a.flags)
		return bad(e, "dirty logging was not offered");
	vu->dev->queue[a.index].ring.addr = (struct vring_addr){a.desc, a.avail, a.used};
	return 0;
}

static int set_vring_base(struct vhost_user *vu, struct err *e)
{
	struct state_payload s = payload_state(vu);
	struct vhost_user_queue *q = pick_idle_queue(vu, s.index, e);
	if (!q)
		return -EPROTO;
	if (s.num > UINT16_MAX)
		return bad(e, "ring index of more than 16 bits");
	vring_set_base(&vu->dev->queue[s.index].ring, (uint16_t)s.num);
	return 0;
}

static int get_vring_base(struct vhost_user *vu, struct err *e)
{
	struct state_payload s = payload_state(vu);
	struct vhost_user_queue *q = pick_queue(vu, s.index, e);
	if (!q)
		return -EPROTO;
	stop_queue(q);
	q->stopped_at = vu->dev->queue[s.index].ring.last_avail;
	s.num = q->stopped_at;
	return reply(vu, &s, sizeof s, e);
}

/* Takes the fd of SET_VRING_{KICK,CALL,ERR} into *fd, -1 if the message says that there is none. NULL with
 * *e set on error. */
static struct vhost_user_queue *take_vring_fd(struct vhost_user *vu, int *fd, struct err *e)
{
	uint64_t v = payload_u64(vu);
	if (v & ~(uint64_t)(VRING_INDEX_MASK | VRING_NO_FD) || vu->n_fds != !(v & VRING_NO_FD)) {
		bad(e, "queue fd message with the wrong number of fds");
		return NULL;
	}
	if (vu->n_fds > 0) {
		/* QEMU's eventfds are non-blocking; whatever else this is must not stop us either. */
		int flags = fcntl(vu->fds[0], F_GETFL);
		if (flags < 0 ||
		    (!(flags & O_NONBLOCK) && fcntl(vu->fds[0], F_SETFL, flags | O_NONBLOCK) < 0)) {
			err_sys(e, "vhost_user", errno, "fcntl of a queue fd");
			return NULL;
		}
		*fd = steal_fd(&vu->fds[0]);
	}
	return pick_queue(vu, v & VRING_INDEX_MASK, e);
}

static int set_vring_kick(struct vhost_user *vu, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct vhost_user_queue *q = take_vring_fd(vu, &fd, e);
	if (!q)
		return -EPROTO;
	if (fd < 0)
		return bad(e, "a queue without a kick fd would have to be polled");
	stop_queue(q);
	q->kick_fd = steal_fd(&fd);
	return start_if_complete(q, e);
}

static int set_vring_call(struct vhost_user *vu, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct vhost_user_queue *q = take_vring_fd(vu, &fd, e);
	if (!q)
		return -EPROTO;
	struct vsock_queue *queue = &vu->dev->queue[q->index];
	close_fd(&queue->call_fd);
	queue->call_fd = steal_fd(&fd);
	/* What was completed before this fd came may have been announced on the old one only. */
	if (queue->call_fd >= 0 && queue->running)
		eventfd_write(queue->call_fd, 1);
	return 0;
}

static int set_vring_err(struct vhost_user *vu, struct err *e)
{
	_cleanup_close_ int fd = -1;
	return take_vring_fd(vu, &fd, e) ? 0 : -EPROTO;
}

static int set_vring_enable(struct vhost_user *vu, struct err *e)
{
	struct state_payload s = payload_state(vu);
	struct vhost_user_queue *q = pick_queue(vu, s.index, e);
	if (!q)
		return -EPROTO;
	q->enabled = s.num != 0;
	if (!q->enabled)
		pause_queue(q);
	return start_if_complete(q, e);
}

static int get_config(struct vhost_user *vu, struct err *e)
{
	struct config_payload c;
	memcpy(&c, vu->payload, sizeof c);
	uint64_t cid = vu->dev->owner.guest_cid; /* all there is in struct virtio_vsock_config */
	if (vu->hdr.size != CONFIG_HEAD + c.size || c.size > sizeof cid || c.offset > sizeof cid - c.size)
		return bad(e, "config space beyond the guest's CID");
	memcpy(c.bytes, (uint8_t *)&cid + c.offset, c.size);
	return reply(vu, &c, (uint32_t)CONFIG_HEAD + c.size, e);
}

struct kind {
	const char *name;
	int (*handle)(struct vhost_user *vu, struct err *e);
	uint16_t size_min, size_max;
	uint8_t fds_max;
	bool replies; /* by itself, not by acknowledgement */
};

static const struct kind kinds[REQUESTS] = {
	[GET_FEATURES] = {"GET_FEATURES", get_features, 0, 0, 0, true},
	[SET_FEATURES] = {"SET_FEATURES", set_features, 8, 8, 0, false},
	[SET_OWNER] = {"SET_OWNER", set_owner, 0, 0, 0, false},
	[SET_MEM_TABLE] = {"SET_MEM_TABLE", set_mem_table, 8, sizeof(struct mem_payload), VHOST_USER_FDS_MAX,
			   false},
	[SET_VRING_NUM] = {"SET_VRING_NUM", set_vring_num, 8, 8, 0, false},
	[SET_VRING_ADDR] = {"SET_VRING_ADDR", set_vring_addr, 40, 40, 0, false},
	[SET_VRING_BASE] = {"SET_VRING_BASE", set_vring_base, 8, 8, 0, false},
	[GET_VRING_BASE] = {"GET_VRING_BASE", get_vring_base, 8, 8, 0, true},
	[SET_VRING_KICK] = {"SET_VRING_KICK", set_vring_kick, 8, 8, 1, false},
	[SET_VRING_CALL] = {"SET_VRING_CALL", set_vring_call, 8, 8, 1, false},
	[SET_VRING_ERR] = {"SET_VRING_ERR", set_vring_err, 8, 8, 1, false},
	[GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", get_protocol_features, 0, 0, 0, true},
	[SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", set_protocol_features, 8, 8, 0, false},
	[SET_VRING_ENABLE] = {"SET_VRING_ENABLE", set_vring_enable, 8, 8, 0, false},
	[GET_CONFIG] = {"GET_CONFIG", get_config, CONFIG_HEAD, sizeof(struct config_payload), 0, true},
};

/* Checked before the payload is received: its size is the peer's word. NULL with *e set if malformed. */
static const struct kind *check_header(const struct vhost_user *vu, struct err *e)
{
	const struct vhost_user_hdr *h = &vu->hdr;
	if (h->request >= REQUESTS || !kinds[h->request].handle) {
		err_set(e, "vhost_user", EPROTO, "request %u is unknown or was not offered", h->request);
		return NULL;
	}
	const struct kind *kind = &kinds[h->request];
	if ((h->flags & VERSION_MASK) == VERSION && !(h->flags & FLAG_REPLY) && h->size >= kind->size_min &&
	    h->size <= kind->size_max && vu->n_fds <= kind->fds_max)
		return kind;
	err_set(e, "vhost_user", EPROTO, "%s with flags %#x, %u bytes, %u fds", kind->name, h->flags, h->size,
		vu->n_fds);
	return NULL;
}

static void drop_message(struct vhost_user *vu)
{
	for (unsigned i = 0; i < vu->n_fds; i++)
		close_fd(&vu->fds[i]);
	vu->n_fds = 0;
	vu->got = 0;
	memset(vu->payload, 0, sizeof vu->payload);
}

static int handle_message(struct vhost_user *vu, const struct kind *kind, struct err *e)
{
	int r = kind->handle(vu, e);
	if (!kind->replies && (vu->hdr.flags & FLAG_NEED_REPLY) && (vu->protocol_features & P_REPLY_ACK)) {
		/* The first error is the one to report. */
		int sent = reply(vu, &(uint64_t){r < 0}, sizeof(uint64_t), r < 0 ? NULL : e);
		if (r == 0)
			r = sent;
	}
	return r;
}

static int keep_fds(struct vhost_user *vu, struct msghdr *msg, struct err *e)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (vu->n_fds == VHOST_USER_FDS_MAX)
				close(fd);
			else
				vu->fds[vu->n_fds++] = fd;
		}
	}
	return msg->msg_flags & MSG_CTRUNC ? bad(e, "more fds than any message carries") : 0;
}

/* Receives a part of the current message; handles it when it is whole. An error ends the session. */
static int receive(struct vhost_user *vu, struct err *e)
{
	size_t head = sizeof vu->hdr;
	struct iovec iov = {(uint8_t *)&vu->hdr + vu->got, head - vu->got};
	if (vu->got >= head)
		iov = (struct iovec){vu->payload + vu->got - head, head + vu->hdr.size - vu->got};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(VHOST_USER_FDS_MAX * sizeof(int))];
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

	ssize_t n = recvmsg(vu->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : err_sys(e, "vhost_user", errno, "recvmsg");
	if (n == 0)
		return err_set(e, "vhost_user", ECONNRESET, "QEMU closed the vhost-user socket");
	int r = keep_fds(vu, &msg, e);
	if (r < 0)
		return r;
	vu->got += (size_t)n;
	if (vu->got < head)
		return 0;

	const struct kind *kind = check_header(vu, e);
	if (!kind)
		return -EPROTO;
	if (vu->got < head + vu->hdr.size)
		return 0;
	r = handle_message(vu, kind, e);
	drop_message(vu);
	return r;
}

static void socket_ready(struct loop_source *src, uint32_t events)
{
	struct vhost_user *vu = container_of(src, struct vhost_user, sock);
	struct err e = {0};
	(void)events;
	if (receive(vu, &e) == 0)
		return;
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		stop_queue(&vu->queue[i]);
	loop_remove(vu->loop, &vu->sock);
	vu->ended(vu, &e);
}

int vhost_user_init(struct vhost_user *vu, struct loop *loop, struct vsock *dev, int fd,
		    void (*ended)(struct vhost_user *, const struct err *))
{
	*vu = (struct vhost_user){.loop = loop, .dev = dev, .fd = fd, .sock.fd = -1, .ended = ended};
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		vu->queue[i] = (struct vhost_user_queue){.vu = vu, .index = i, .kick.fd = -1, .kick_fd = -1};
	return loop_add(loop, &vu->sock, fd, EPOLLIN, socket_ready);
}

void vhost_user_finish(struct vhost_user *vu)
{
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		stop_queue(&vu->queue[i]);
	drop_message(vu);
	loop_remove(vu->loop, &vu->sock);
	close_fd(&vu->fd);
}
