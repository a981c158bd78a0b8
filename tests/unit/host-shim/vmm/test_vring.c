#include "host-shim/vmm/vring.h"

#include "proto/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define NUM 8
#define MEM_SIZE 0x8000
#define MEM_USER 0x10000u /* where QEMU would have it */
#define BUFFER(i) (0x4000u + 0x100u * (i))

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

/* A guest's memory from address 0, with a ring in it. */
static struct {
	uint8_t *mem;
	struct memtable table;
	struct vring ring;
	struct vring_chain chain;
	struct err e;
} g;

static struct vring_desc *desc(unsigned i)
{
	return (struct vring_desc *)(void *)g.mem + i;
}

static uint16_t *avail(void)
{
	return (uint16_t *)(void *)(g.mem + 0x1000);
}

static uint16_t *used(void)
{
	return (uint16_t *)(void *)(g.mem + 0x2000);
}

static struct vring_desc *indirect(unsigned i)
{
	return (struct vring_desc *)(void *)(g.mem + 0x3000) + i;
}

static void offer(uint16_t head)
{
	avail()[2 + avail()[1] % NUM] = head;
	avail()[1]++;
}

static int setup(void **state)
{
	(void)state;
	memset(&g, 0, sizeof g);
	_cleanup_close_ int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct memtable_region all = {.size = MEM_SIZE, .user_addr = MEM_USER};
	if (fd < 0 || ftruncate(fd, MEM_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
	    memtable_set(&g.table, &all, &fd, 1, &g.e) < 0)
		return -1;
	g.mem = g.table.region[0].host;
	vring_init(&g.ring);
	const uint64_t base = MEM_USER;
	g.ring.addr = (struct vring_addr){base, base + 0x1000, base + 0x2000};
	g.ring.event_idx = g.ring.indirect = true;
	return vring_set_size(&g.ring, NUM, &g.e) || vring_map(&g.ring, &g.table, &g.e);
}

static int teardown(void **state)
{
	(void)state;
	memtable_finish(&g.table);
	return 0;
}

static int peek(void)
{
	return vring_peek(&g.ring, &g.table, &g.chain, &g.e);
}

static void sizes_and_places(void **state)
{
	(void)state;
	for (unsigned num = 0; num <= 2 * VRING_SIZE_MAX; num++) {
		bool good = num == 1 || num == 2 || num == 4 || num == 8 || num == 16 || num == 32 ||
			    num == 64 || num == 128 || num == 256 || num == 512 || num == 1024;
		assert_int_equal(vring_set_size(&g.ring, num, &g.e), good ? 0 : -EINVAL);
	}
	const uint64_t base = MEM_USER, end = base + MEM_SIZE;
	const struct vring_addr bad[] = {
		{base + 8, base + 0x1000, base + 0x2000},
		{base, base + 0x1001, base + 0x2000},
		{base, base + 0x1000, base + 0x2002},
		{end - 16, base + 0x1000, base + 0x2000},
		{base, end - 20, base + 0x2000},
		{base, base + 0x1000, end - 68},
		{0, 0, 0},
		{UINT64_MAX & ~15ull, base, base},
	};
	vring_set_size(&g.ring, NUM, &g.e);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		g.ring.addr = bad[i];
		assert_int_equal(vring_map(&g.ring, &g.table, &g.e), -EINVAL);
		assert_null(g.ring.desc);
	}
}

static void takes_a_chain(void **state)
{
	(void)state;
	assert_int_equal(peek(), 0);
	*desc(3) = (struct vring_desc){BUFFER(0), 44, NEXT, 5};
	*desc(5) = (struct vring_desc){BUFFER(1), 0, NEXT, 1}; /* empty buffers are odd, not wrong */
	*desc(1) = (struct vring_desc){BUFFER(2), 100, WRITE, 77};
	offer(3);
	assert_int_equal(peek(), 1);
	assert_int_equal(peek(), 1); /* looking is not taking */
	assert_int_equal(g.chain.n_out, 1);
	assert_int_equal(g.chain.n_in, 1);
	assert_int_equal(g.chain.out_len, 44);
	assert_int_equal(g.chain.in_len, 100);
	assert_ptr_equal(g.chain.iov[1].iov_base, g.mem + BUFFER(2));
	vring_complete(&g.ring, &g.chain, 60);
	assert_int_equal(peek(), 0);
	assert_int_equal(used()[1], 1);
	assert_int_equal(used()[2], 3);
	assert_int_equal(used()[4], 60);
}

static void takes_an_indirect_chain(void **state)
{
	(void)state;
	*desc(0) = (struct vring_desc){0x3000, 3 * 16, INDIRECT, 0};
	*indirect(0) = (struct vring_desc){BUFFER(0), 10, NEXT, 2};
	*indirect(2) = (struct vring_desc){BUFFER(1), 20, 0, 0};
	offer(0);
	assert_int_equal(peek(), 1);
	assert_int_equal(g.chain.out_len, 30);
	g.ring.indirect = false; /* not negotiated */
	assert_int_equal(peek(), -EPROTO);
}

static void indices_wrap(void **state)
{
	(void)state;
	vring_set_base(&g.ring, UINT16_MAX - 2);
	avail()[1] = UINT16_MAX - 2;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, 0, 0};
	for (unsigned i = 0; i < 6; i++) {
		offer(0);
		assert_int_equal(peek(), 1);
		vring_complete(&g.ring, &g.chain, 0);
		assert_int_equal(used()[1], (uint16_t)(UINT16_MAX - 1 + i));
	}
	assert_int_equal(peek(), 0);
}

static void refuses_indices_ahead(void **state)
{
	(void)state;
	avail()[1] = NUM;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, 0, 0};
	assert_int_equal(peek(), 1);
	avail()[1] = NUM + 1;
	assert_int_equal(peek(), -EPROTO);
	avail()[1] = UINT16_MAX; /* one back */
	assert_int_equal(peek(), -EPROTO);
}

static void refuses_heads_and_links_out_of_range(void **state)
{
	(void)state;
	offer(NUM);
	assert_int_equal(peek(), -EPROTO);
	avail()[2] = 0;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, NEXT, NUM};
	assert_int_equal(peek(), -EPROTO);
	desc(0)->next = UINT16_MAX;
	assert_int_equal(peek(), -EPROTO);
}

static void refuses_loops(void **state)
{
	(void)state;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, NEXT, 0};
	offer(0);
	assert_int_equal(peek(), -EPROTO);
	*desc(0) = (struct vring_desc){BUFFER(0), 1, NEXT, 1};
	*desc(1) = (struct vring_desc){BUFFER(0), 0, NEXT, 0}; /* through empty buffers too */
	assert_int_equal(peek(), -EPROTO);
	*desc(0) = (struct vring_desc){0x3000, 2 * 16, INDIRECT, 0};
	*indirect(0) = (struct vring_desc){BUFFER(0), 1, NEXT, 1};
	*indirect(1) = (struct vring_desc){BUFFER(0), 1, NEXT, 0};
	assert_int_equal(peek(), -EPROTO);
}

static void a_chain_may_be_as_long_as_the_queue(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < NUM; i++)
		*desc(i) = (struct vring_desc){BUFFER(i), 1, i + 1 < NUM ? NEXT : 0, (uint16_t)(i + 1)};
	offer(0);
	assert_int_equal(peek(), 1);
	assert_int_equal(g.chain.n_out, NUM);
}

static void refuses_bad_indirect_tables(void **state)
{
	(void)state;
	offer(0);
	*indirect(0) = (struct vring_desc){BUFFER(0), 1, 0, 0};
	const struct vring_desc bad[] = {
		{0x3000, 0, INDIRECT, 0},          {0x3000, 15, INDIRECT, 0},
		{0x3000, 16, INDIRECT | NEXT, 1},  {0x3004, 16, INDIRECT, 0},
		{0x7ff8, 16, INDIRECT, 0},         {UINT64_MAX - 7, 16, INDIRECT, 0},
		{0x3000, 0xfffffff0, INDIRECT, 0},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		*desc(0) = bad[i];
		assert_int_equal(peek(), -EPROTO);
	}
	*desc(0) = (struct vring_desc){0x3000, 16, INDIRECT, 0};
	assert_int_equal(peek(), 1);
	indirect(0)->flags = INDIRECT; /* nested */
	assert_int_equal(peek(), -EPROTO);
	*indirect(0) = (struct vring_desc){BUFFER(0), 1, NEXT, 1}; /* past the table */
	assert_int_equal(peek(), -EPROTO);
}

static void refuses_bad_buffers(void **state)
{
	(void)state;
	offer(0);
	const struct vring_desc bad[] = {
		{0x8000, 1, 0, 0},     {0x7fff, 2, 0, 0},          {UINT64_MAX, 1, 0, 0},
		{0, UINT32_MAX, 0, 0}, {UINT64_MAX - 9, 20, 0, 0},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		*desc(0) = bad[i];
		assert_int_equal(peek(), -EPROTO);
	}
	*desc(0) = (struct vring_desc){BUFFER(0), 1, WRITE | NEXT, 1};
	*desc(1) = (struct vring_desc){BUFFER(1), 1, 0, 0}; /* readable after writable */
	assert_int_equal(peek(), -EPROTO);
}

static void notifies_by_event_index(void **state)
{
	(void)state;
	uint16_t *used_event = avail() + 2 + NUM;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, 0, 0};
	assert_true(vring_should_notify(&g.ring)); /* the first decision has no past */
	assert_false(vring_should_notify(&g.ring));
	*used_event = 1; /* wake me when the second is done */
	for (unsigned i = 0; i < 3; i++) {
		offer(0);
		assert_int_equal(peek(), 1);
		vring_complete(&g.ring, &g.chain, 0);
		assert_int_equal(vring_should_notify(&g.ring), i == 1);
	}
	*used_event = 4;
	for (unsigned i = 0; i < 4; i++) { /* in one go past it */
		offer(0);
		assert_int_equal(peek(), 1);
		vring_complete(&g.ring, &g.chain, 0);
	}
	assert_true(vring_should_notify(&g.ring));
}

static void arms_without_missing(void **state)
{
	(void)state;
	uint16_t *avail_event = used() + 2 + 4 * NUM;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, 0, 0};
	assert_false(vring_arm(&g.ring));
	assert_int_equal(*avail_event, 0);
	offer(0);
	assert_true(vring_arm(&g.ring));
	assert_int_equal(peek(), 1);
	vring_complete(&g.ring, &g.chain, 0);
	assert_false(vring_arm(&g.ring));
	assert_int_equal(*avail_event, 1);
}

static void works_without_event_index(void **state)
{
	(void)state;
	g.ring.event_idx = false;
	*desc(0) = (struct vring_desc){BUFFER(0), 1, 0, 0};
	offer(0);
	assert_true(vring_arm(&g.ring));
	assert_int_equal(used()[0], 1); /* no kicks while we look anyway */
	assert_int_equal(peek(), 1);
	vring_complete(&g.ring, &g.chain, 0);
	assert_false(vring_arm(&g.ring));
	assert_int_equal(used()[0], 0);
	avail()[0] = 1;
	assert_false(vring_should_notify(&g.ring));
	offer(0);
	assert_int_equal(peek(), 1);
	vring_complete(&g.ring, &g.chain, 0);
	avail()[0] = 0;
	assert_true(vring_should_notify(&g.ring));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sizes_and_places, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_a_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_an_indirect_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(indices_wrap, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_indices_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_heads_and_links_out_of_range, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_loops, setup, teardown),
		cmocka_unit_test_setup_teardown(a_chain_may_be_as_long_as_the_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_bad_indirect_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_bad_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(notifies_by_event_index, setup, teardown),
		cmocka_unit_test_setup_teardown(arms_without_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(works_without_event_index, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
