#include "host-shim/vmm/vhost_user.h"

#include "proto/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum {
	GET_FEATURES = 1,
	SET_FEATURES,
	SET_OWNER,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR,
	SET_VRING_BASE,
	GET_VRING_BASE,
	SET_VRING_KICK,
	SET_VRING_CALL,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24
};

#define MEM_SIZE 0x10000u
#define MEM_USER 0x7f0000000000ull
#define FEATURES (1ull << 28 | 1ull << 29 | 1ull << 30 | 1ull << 32)
#define PLAIN 1u
#define NEED_REPLY (1u | 8u)

static struct {
	struct loop loop;
	struct vsock dev;
	struct vhost_user vu;
	int front;
	bool ended;
	struct err why;
} t;

static int dial(struct vsock *dev, uint32_t port)
{
	(void)dev;
	(void)port;
	return -ECONNREFUSED;
}

static void failed(struct vsock *dev, const struct err *e)
{
	(void)dev;
	fail_msg("device: %s", e->msg);
}

static void ended(struct vhost_user *vu, const struct err *e)
{
	(void)vu;
	t.ended = true;
	t.why = *e;
}

static int setup(void **state)
{
	static const struct vsock_ops ops = {.dial = dial, .failed = failed};
	int pair[2];
	(void)state;
	memset(&t, 0, sizeof t);
	if (loop_init(&t.loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	vsock_init(&t.dev, &t.loop, &ops, 42, 16);
	t.front = pair[0];
	return vhost_user_init(&t.vu, &t.loop, &t.dev, pair[1], ended);
}

static int teardown(void **state)
{
	(void)state;
	vhost_user_finish(&t.vu);
	vsock_finish(&t.dev);
	loop_finish(&t.loop);
	close_fd(&t.front);
	return 0;
}

static void turn(void)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_turn(&t.loop, 0), 0);
}

static void send_fds(uint32_t request, uint32_t flags, const void *payload, uint32_t size, const int *fds,
		     unsigned n)
{
	struct vhost_user_hdr hdr = {request, flags, size};
	struct iovec iov[2] = {{&hdr, sizeof hdr}, {(void *)payload, size}};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	if (n > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	assert_int_equal(sendmsg(t.front, &msg, 0), sizeof hdr + size);
	turn();
}

static void send_u64(uint32_t request, uint64_t v)
{
	send_fds(request, PLAIN, &v, sizeof v, NULL, 0);
}

static void send_state(uint32_t request, uint32_t index, uint32_t num)
{
	send_fds(request, PLAIN, (uint32_t[]){index, num}, 8, NULL, 0);
}

static uint64_t reply(uint32_t request)
{
	struct {
		struct vhost_user_hdr hdr;
		uint64_t value;
	} __attribute__((packed)) r;
	assert_int_equal(recv(t.front, &r, sizeof r, MSG_DONTWAIT), sizeof r);
	assert_int_equal(r.hdr.request, request);
	assert_int_equal(r.hdr.flags, 5);
	return r.value;
}

static unsigned open_fds(void)
{
	_cleanup_closedir_ DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;
	while (readdir(d))
		n++;
	return n;
}

static void send_memory(uint32_t flags)
{
	_cleanup_close_ int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, MEM_SIZE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	uint64_t table[5] = {1, 0, MEM_SIZE, MEM_USER, 0};
	send_fds(SET_MEM_TABLE, flags, table, sizeof table, &fd, 1);
}

static void send_queue(unsigned q)
{
	struct {
		uint32_t index, flags;
		uint64_t desc, used, avail, log;
	} addr = {q, 0, MEM_USER + 0x4000 * q, MEM_USER + 0x4000 * q + 0x2000, MEM_USER + 0x4000 * q + 0x1000,
		  0};
	_cleanup_close_ int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	send_state(SET_VRING_NUM, q, 128);
	send_state(SET_VRING_BASE, q, 0);
	send_fds(SET_VRING_ADDR, PLAIN, &addr, sizeof addr, NULL, 0);
	send_fds(SET_VRING_KICK, PLAIN, &(uint64_t){q}, 8, &fd, 1);
	send_fds(SET_VRING_CALL, PLAIN, &(uint64_t){q}, 8, &fd, 1);
	send_state(SET_VRING_ENABLE, q, 1);
}

static void comes_up(void **state)
{
	(void)state;
	send_fds(GET_FEATURES, PLAIN, NULL, 0, NULL, 0);
	assert_int_equal(reply(GET_FEATURES), FEATURES);
	send_u64(SET_PROTOCOL_FEATURES, 1u << 3 | 1u << 9);
	struct {
		uint32_t offset, size, flags;
		uint64_t cid;
	} __attribute__((packed)) config = {0, 8, 0, 0}, *answer;
	send_fds(GET_CONFIG, PLAIN, &config, sizeof config, NULL, 0);
	char buf[64];
	assert_int_equal(recv(t.front, buf, sizeof buf, MSG_DONTWAIT), 12 + sizeof config);
	answer = (void *)(buf + 12);
	assert_int_equal(answer->cid, 42);
	send_fds(SET_OWNER, PLAIN, NULL, 0, NULL, 0);
	send_u64(SET_FEATURES, FEATURES);
	send_memory(NEED_REPLY);
	assert_int_equal(reply(SET_MEM_TABLE), 0);
	send_queue(VSOCK_RX);
	send_queue(VSOCK_TX);
	assert_false(t.ended);
	assert_true(t.dev.queue[VSOCK_RX].running && t.dev.queue[VSOCK_TX].running);

	send_memory(PLAIN); /* under running queues */
	assert_false(t.ended);
	send_state(GET_VRING_BASE, VSOCK_TX, 0);
	assert_int_equal(reply(GET_VRING_BASE), (uint64_t)0 << 32 | VSOCK_TX);
	assert_false(t.dev.queue[VSOCK_TX].running);
}

static void waits_for_a_message_in_pieces(void **state)
{
	(void)state;
	uint8_t bytes[20] = {SET_FEATURES, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x70, 1, 0, 0, 0};
	for (size_t i = 0; i < sizeof bytes; i++) {
		assert_false(t.vu.features_set);
		assert_int_equal(send(t.front, bytes + i, 1, 0), 1);
		turn();
	}
	assert_true(t.vu.features_set);
	assert_int_equal(t.vu.features, FEATURES);
}

/* Each ends the session, with a reason, and leaks no fd. */
static void ends_on(void (*bad)(void))
{
	unsigned before = open_fds();
	bad();
	assert_true(t.ended);
	assert_true(t.why.msg[0]);
	assert_int_equal(t.vu.sock.fd, -1);
	vhost_user_finish(&t.vu);
	for (unsigned q = 0; q < VSOCK_QUEUES; q++)
		close_fd(&t.dev.queue[q].call_fd);
	assert_int_equal(open_fds(), before - 1); /* its socket is gone, and nothing was left */
}

static void legacy_driver(void)
{
	send_u64(SET_FEATURES, 1ull << 28);
}

static void unknown_request(void)
{
	send_u64(999, 0);
}

static void unoffered_feature(void)
{
	send_u64(SET_FEATURES, FEATURES | 1ull << 26);
}

static void oversized(void)
{
	struct vhost_user_hdr hdr = {SET_FEATURES, 1, UINT32_MAX};
	send(t.front, &hdr, sizeof hdr, 0);
	turn();
}

static void undersized(void)
{
	send_fds(SET_FEATURES, PLAIN, "1234", 4, NULL, 0);
}

static void wrong_version(void)
{
	send_fds(GET_FEATURES, 2, NULL, 0, NULL, 0);
}

static void queue_out_of_range(void)
{
	send_state(SET_VRING_NUM, 2, 128);
}

static void queue_before_memory(void)
{
	send_u64(SET_FEATURES, FEATURES);
	send_queue(VSOCK_RX);
}

static void unexpected_fds(void)
{
	send_fds(GET_FEATURES, PLAIN, NULL, 0, (int[]){0, 1, 2}, 3);
}

static void too_many_fds(void)
{
	send_fds(SET_MEM_TABLE, PLAIN, (uint64_t[5]){1}, 40, (int[12]){0}, 12);
}

static void fewer_fds_than_regions(void)
{
	send_fds(SET_MEM_TABLE, PLAIN, (uint64_t[9]){2}, 72, (int[1]){0}, 1);
}

static void more_regions_than_bytes(void)
{
	send_fds(SET_MEM_TABLE, PLAIN, (uint64_t[5]){2}, 40, (int[2]){0, 0}, 2);
}

static void kick_without_fd(void)
{
	send_u64(SET_VRING_KICK, 0x100);
}

static void ring_changed_while_running(void)
{
	send_u64(SET_FEATURES, FEATURES);
	send_memory(PLAIN);
	send_queue(VSOCK_RX);
	assert_false(t.ended);
	send_state(SET_VRING_NUM, VSOCK_RX, 64);
}

static void closed(void)
{
	shutdown(t.front, SHUT_RDWR);
	turn();
}

#define ENDS_ON(what)                            \
	static void ends_on_##what(void **state) \
	{                                        \
		(void)state;                     \
		ends_on(what);                   \
	}
ENDS_ON(legacy_driver)
ENDS_ON(unknown_request)
ENDS_ON(unoffered_feature)
ENDS_ON(oversized)
ENDS_ON(undersized)
ENDS_ON(wrong_version)
ENDS_ON(queue_out_of_range)
ENDS_ON(queue_before_memory)
ENDS_ON(unexpected_fds)
ENDS_ON(too_many_fds)
ENDS_ON(fewer_fds_than_regions)
ENDS_ON(more_regions_than_bytes)
ENDS_ON(kick_without_fd)
ENDS_ON(ring_changed_while_running)
ENDS_ON(closed)

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_up),
		TEST(waits_for_a_message_in_pieces),
		TEST(ends_on_legacy_driver),
		TEST(ends_on_unknown_request),
		TEST(ends_on_unoffered_feature),
		TEST(ends_on_oversized),
		TEST(ends_on_undersized),
		TEST(ends_on_wrong_version),
		TEST(ends_on_queue_out_of_range),
		TEST(ends_on_queue_before_memory),
		TEST(ends_on_unexpected_fds),
		TEST(ends_on_too_many_fds),
		TEST(ends_on_fewer_fds_than_regions),
		TEST(ends_on_more_regions_than_bytes),
		TEST(ends_on_kick_without_fd),
		TEST(ends_on_ring_changed_while_running),
		TEST(ends_on_closed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
