/* The handover: written and read, by older and newer programs, and when it is corrupt. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/upgrade/handover.h"
#include "guest/upgrade/restore.h"

static struct exec_table table;
static int ends[2], listener;
static uint8_t bytes[4096], scratch[65536], boot_id[] = "0123456789abcdef";
static size_t len;

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(exec_table_init(&table, NULL), 0);
	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr any = {.sa_family = AF_UNIX}; /* by itself: the kernel picks a name, unix(7) */
	assert_int_equal(bind(listener, &any, sizeof any.sa_family), 0);
	assert_int_equal(listen(listener, 1), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	exec_table_finish(&table);
	close(ends[0]);
	close(ends[1]);
	close(listener);
	return 0;
}

static Tenon__Handover whole(void)
{
	static ProtobufCBinaryData env[2] = {{3, (uint8_t *)"A=1"}, {4, (uint8_t *)"B=22"}};
	Tenon__Handover h = TENON__HANDOVER__INIT;
	h.version = HANDOVER_VERSION;
	h.min_version = HANDOVER_MIN;
	h.arena_layout = exec_table_layout();
	h.boot_id = (ProtobufCBinaryData){16, boot_id};
	h.host_epoch = UINT64_MAX;
	h.upgrades = 3;
	h.arena_fd = (uint32_t)table.memfd;
	h.listener_fd = (uint32_t)listener;
	h.env = env;
	h.n_env = 2;
	return h;
}

/* As some program wrote it, with `more` of a later one behind. */
static void put(const Tenon__Handover *h, const char *more)
{
	size_t n = tenon__handover__pack(h, bytes + 12);
	memcpy(bytes + 12 + n, more, strlen(more));
	n += strlen(more);
	memcpy(bytes, "TNHAND\r\n", 8);
	wire_put_u32(bytes + 8, (uint32_t)n);
	len = 12 + n;
}

static const Tenon__Handover *parse(struct err *e)
{
	struct bump b;
	bump_init(&b, scratch, sizeof scratch);
	return handover_parse(bytes, len, &b, e);
}

static void what_is_written_is_read(void **state)
{
	(void)state;
	Tenon__Handover h = whole();
	h.version = h.min_version = 0;
	h.arena_layout = 0;
	int fd = handover_write(&h, NULL);
	assert_true(handover_is_one(fd));
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	void *memory;
	const Tenon__Handover *r = handover_read(fd, &memory, NULL);
	assert_non_null(r);
	assert_memory_equal(r->boot_id.data, boot_id, 16);
	assert_true(r->host_epoch == UINT64_MAX && r->upgrades == 3 && r->version == HANDOVER_VERSION);
	assert_int_equal(r->arena_fd, table.memfd);
	assert_int_equal(r->n_env, 2);
	assert_memory_equal(r->env[1].data, "B=22", 4);
	munmap(memory, HANDOVER_MEMORY);
	close(fd);
}

static void one_that_is_too_large_is_not_written(void **state)
{
	(void)state;
	Tenon__Handover h = whole();
	h.env[0].len = HANDOVER_MAX;
	struct err e;
	assert_int_equal(handover_write(&h, &e), -EMSGSIZE);
	h.env[0].len = 3;
}

static void old_and_new_mix(void **state)
{
	(void)state;
	struct err e;
	Tenon__Handover h = whole();
	h.version = 99;
	put(&h, "\xfa\x06\x05later\xf8\x06\x01");
	assert_non_null(parse(&e)); /* a newer one's, fit for us */
	h.min_version = HANDOVER_VERSION + 1;
	put(&h, "");
	assert_null(parse(&e));
	assert_non_null(strstr(e.msg, "version 99"));
	h.version = HANDOVER_OLDEST - 1;
	h.min_version = 0;
	put(&h, "");
	assert_null(parse(&e));
	h = whole();
	h.arena_layout++;
	put(&h, "");
	assert_null(parse(&e));
	assert_non_null(strstr(e.msg, "laid out"));
}

static void nothing_but_a_handover_is_read(void **state)
{
	(void)state;
	struct err e;
	Tenon__Handover h = whole();
	put(&h, "");
	size_t all = len;
	for (len = 0; len < all; len++)
		assert_null(parse(&e));
	len = all + 1;
	assert_null(parse(&e));
	len = all;
	bytes[3] ^= 1;
	assert_null(parse(&e));
	h.boot_id.len = 15;
	put(&h, "");
	assert_null(parse(&e));
}

static void only_what_is_sealed(void **state)
{
	(void)state;
	Tenon__Handover h = whole();
	put(&h, "");
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	assert_int_equal(write(fd, bytes, len), len);
	assert_false(handover_is_one(fd));
	fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_true(handover_is_one(fd));

	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	char *kernels[] = {"/init", "quiet", "--upgraded", number};
	assert_int_equal(restore_find(4, kernels, "--upgraded"), fd);
	assert_int_equal(restore_find(4, kernels, "--self-test"), -1);
	assert_int_equal(restore_find(3, kernels, "--upgraded"), -1);
	assert_int_equal(restore_find(1, kernels, "--upgraded"), -1);
	close(fd);
	assert_int_equal(restore_find(4, kernels, "--upgraded"), -1);
	assert_false(handover_is_one(0));
	assert_false(handover_is_one(-1));
	assert_false(handover_is_one(ends[0]));
	assert_false(handover_is_one(table.memfd));
}

/* ---- what it names ---- */

static struct exec_row *put_row(uint8_t id, pid_t pid)
{
	uint8_t whole_id[EXEC_ID_SIZE] = {id};
	struct exec_row *r = exec_table_row(&table, exec_table_take(&table, whole_id));
	r->state = EXEC_RUNNING;
	r->pid = r->session = pid;
	r->in.closed = true;
	r->out[0].eof = r->out[1].eof = true;
	return r;
}

static void each_descriptor_once_and_of_its_kind(void **state)
{
	(void)state;
	struct err e;
	Tenon__Handover h = whole();
	struct exec_row *r = put_row(1, 50);
	r->out[0].eof = false;
	r->out[0].fd = ends[0];
	r->in.closed = false;
	r->in.fd = ends[1];
	assert_int_equal(handover_check(&h, &table, &e), 0);
	r->in.fd = ends[0];
	assert_int_equal(handover_check(&h, &table, &e), -EBADF); /* not to be written to */
	r->in.fd = ends[1];
	r->out[0].fd = ends[1];
	assert_int_equal(handover_check(&h, &table, &e), -EBADF);
	r->out[0].fd = 999;
	assert_int_equal(handover_check(&h, &table, &e), -EBADF);
	r->out[0].fd = INT32_MAX;
	assert_int_equal(handover_check(&h, &table, &e), -EBADF);
	r->out[0].fd = ends[0];
	fcntl(ends[0], F_SETFL, 0);
	assert_int_equal(handover_check(&h, &table, &e), -EBADF); /* it would block */
	fcntl(ends[0], F_SETFL, O_NONBLOCK);

	h.namespace_fd = (uint32_t)ends[0];
	assert_int_equal(handover_check(&h, &table, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "twice"));
	h.namespace_fd = UINT32_MAX;
	assert_int_equal(handover_check(&h, &table, &e), -EBADF);
	h.namespace_fd = 2;
	assert_int_equal(handover_check(&h, &table, &e), -EBADF);
	h.namespace_fd = 0;
	h.listener_fd = (uint32_t)table.memfd;
	h.arena_fd = (uint32_t)listener;
	assert_int_equal(handover_check(&h, &table, &e), -EBADF);
}

static void rows_in_order(void **state)
{
	(void)state;
	struct err e;
	Tenon__Handover h = whole();
	struct exec_row *r = put_row(1, 50), *other = put_row(2, 51);
	assert_int_equal(handover_check(&h, &table, &e), 0);
	other->pid = other->session = 50;
	assert_int_equal(handover_check(&h, &table, &e), -EINVAL);
	other->pid = other->session = 51;
	r->out[0].ring.base = 1;
	assert_int_equal(handover_check(&h, &table, &e), -EINVAL);
	r->state = EXEC_SPAWNING; /* it will be over by then */
	assert_int_equal(handover_check(&h, &table, &e), 0);
	memset(&r->state, 0xff, sizeof r->state);
	assert_int_equal(handover_check(&h, &table, &e), -EINVAL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read), TEST(one_that_is_too_large_is_not_written),
		TEST(old_and_new_mix),         TEST(nothing_but_a_handover_is_read),
		TEST(only_what_is_sealed),     TEST(each_descriptor_once_and_of_its_kind),
		TEST(rows_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
