/* An upgrade that comes to nothing at its last step: this program goes on with all it had. The program under
 * test is also the one that is tried: it passes any self-test. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/upgrade/handover.h"
#include "guest/upgrade/upgrade.h"

static struct loop loop;
static struct identity identity;
static struct execs execs;
static struct exec_watch watch;
static struct box box;
static struct quiesce quiesce;
static struct power power = {.quiesce = &quiesce};
static struct link link_;
static struct listener listener;
static struct upgrade upgrade;
static int accepted;

static void on_news(struct exec_watch *w, int row, unsigned news)
{
	(void)w;
	(void)row;
	(void)news;
}

static void on_accepted(struct listener *l, int fd)
{
	(void)l;
	accepted++;
	close(fd);
}

static void on_listening(struct listener *l)
{
	(void)l;
}

static char path[64];

static int set_up(void **state)
{
	(void)state;
	char where[80];
	cgroup_pool_init_none(&execs.cgroups);
	execs.base = (struct spawn_base){.ns_fd = -1};
	watch.news = on_news;
	listener = (struct listener){.loop = &loop, .accepted = on_accepted, .listening = on_listening};
	snprintf(path, sizeof path, "/tmp/tenon-test-upgrade-%d", getpid());
	snprintf(where, sizeof where, "unix:%s", path);
	assert_int_equal(listener_parse(&listener, where, NULL), 0);
	assert_int_equal(loop_init(&loop, NULL), 0);
	assert_int_equal(execs_init(&execs, &loop, &watch, NULL), 0);
	listener_start(&listener);
	power.stage = POWER_ON;
	identity_init(&identity);
	link_ = (struct link){.loop = &loop};
	upgrade = (struct upgrade){.loop = &loop,
				   .identity = &identity,
				   .execs = &execs,
				   .box = &box,
				   .power = &power,
				   .link = &link_,
				   .listener = &listener,
				   .listen_on = "unix:/nowhere"};
	upgrade_init(&upgrade);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	munmap(execs.slots, EXEC_ROWS * sizeof *execs.slots);
	munmap(execs.areas, (size_t)EXEC_ROWS * SPAWN_AREA);
	exec_table_finish(&execs.table);
	loop_remove(&loop, &listener.source);
	close(listener.fd);
	unlink(path);
	loop_finish(&loop);
	return 0;
}

static int this_program(void)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = memfd_create("self", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	while (sendfile(to, from, NULL, 1 << 20) > 0)
		;
	close(from);
	return to;
}

/* Begins with this program; returns the end that hears the verdict. */
static int begin(void)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	upgrade_begin(&upgrade, this_program(), pair[1]);
	return pair[0];
}

static void pass_test(void)
{
	int status;
	assert_int_equal(upgrade.stage, UPGRADE_TESTING);
	pid_t pid = waitpid(upgrade.tester, &status, 0);
	assert_false(upgrade_reaped(&upgrade, pid + 1, status));
	assert_true(upgrade_reaped(&upgrade, pid, status));
	assert_int_equal(upgrade.stage, UPGRADE_SETTLING);
	assert_true(link_.paused);
}

static void hear(int sock, struct upgrade_verdict *v)
{
	assert_int_equal(recv(sock, v, sizeof *v, 0), sizeof *v);
}

static void hear_a_fault(int sock, Tenon__Code code, const char *stage)
{
	struct upgrade_verdict v;
	hear(sock, &v);
	assert_false(v.go);
	assert_int_equal(v.fault.code, code);
	assert_string_equal(v.fault.err.stage, stage);
	assert_int_equal(recv(sock, &v, sizeof v, 0), 0);
	close(sock);
}

static int open_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Connections wait in the backlog while it is under way and are accepted when it was for nothing. */
static void assert_serves(void)
{
	assert_int_equal(upgrade.stage, UPGRADE_NONE);
	assert_false(link_.paused);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(sock, (struct sockaddr *)&listener.address, listener.address_len), 0);
	accepted = 0;
	loop_turn(&loop, 1);
	assert_int_equal(accepted, 1);
	close(sock);
}

static void an_execve_that_fails(void **state)
{
	(void)state;
	uint8_t id[EXEC_ID_SIZE] = {1};
	int ends[2], before;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	int row = exec_table_take(&execs.table, id);
	struct exec_row *r = exec_table_row(&execs.table, row);
	r->state = EXEC_RUNNING;
	r->out[0].fd = ends[0];
	before = open_fds();

	int sock = begin();
	pass_test();
	close(upgrade.binary_fd);
	upgrade.binary_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	upgrade_turn(&upgrade);
	struct upgrade_verdict v;
	hear(sock, &v);
	assert_true(v.go);
	hear_a_fault(sock, TENON__CODE__CODE_INTERNAL, "execve");
	assert_int_equal(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(execs.table.memfd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(listener.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(open_fds(), before);
	assert_serves();
	exec_table_release(&execs.table, row);
	close(ends[0]);
	close(ends[1]);
}

static void a_start_that_hangs(void **state)
{
	(void)state;
	uint8_t id[EXEC_ID_SIZE] = {1};
	int row = exec_table_take(&execs.table, id);
	exec_table_row(&execs.table, row)->state = EXEC_SPAWNING;
	int sock = begin();
	pass_test();
	upgrade_turn(&upgrade);
	assert_true(link_.paused);
	upgrade.deadline.at = 0; /* a second later */
	loop_turn(&loop, 1);
	assert_int_equal(upgrade.stage, UPGRADE_SETTLING);
	assert_false(link_.paused); /* others do not wait for it */
	upgrade_turn(&upgrade);
	upgrade.deadline.at = 0; /* and ten later */
	loop_turn(&loop, 1);
	hear_a_fault(sock, TENON__CODE__CODE_TIMEOUT, "upgrade");
	assert_serves();
	exec_table_release(&execs.table, row);
}

static void one_at_a_time(void **state)
{
	(void)state;
	int first = begin(), second = begin();
	hear_a_fault(second, TENON__CODE__CODE_RESOURCE_EXHAUSTED, "upgrade");
	pass_test();
	second = begin();
	hear_a_fault(second, TENON__CODE__CODE_RESOURCE_EXHAUSTED, "upgrade");
	power.stage = POWER_STOPPING;
	upgrade_turn(&upgrade);
	hear_a_fault(first, TENON__CODE__CODE_SHUTTING_DOWN, "upgrade");
	assert_serves();
	first = begin();
	hear_a_fault(first, TENON__CODE__CODE_SHUTTING_DOWN, "upgrade");
}

static void the_binary_stays_as_it_was_tested(void **state)
{
	(void)state;
	int sock = begin();
	assert_int_equal(pwrite(upgrade.binary_fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	pass_test();
	power.stage = POWER_STOPPING;
	upgrade_turn(&upgrade);
	close(sock);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--self-test") == 0) {
		fputs(HANDOVER_PASSED "\n", stderr);
		_exit(0);
	}
	const struct CMUnitTest tests[] = {
		TEST(an_execve_that_fails),
		TEST(a_start_that_hangs),
		TEST(one_at_a_time),
		TEST(the_binary_stays_as_it_was_tested),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
