/* A hostile host on an open main connection: frames, messages and their order are the fuzzer's. The agent is
 * real but for its processes: rows are put there by hand and no program starts, since the box stays
 * unconfigured. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/link/link.h"

#define ROWS 3
#define NOBODY 0x3fffffff /* a pid that Linux does not give out */

static struct loop loop;
static struct execs execs;
static struct identity identity;
static struct box box;
static struct power power;
static struct quiesce quiesce;
static struct link link_;

static void on_configured(struct box *b, const struct fault *f)
{
	link_answer(&link_, LINK_CONFIGURE, f);
	b->configured = false; /* so that Exec never starts anything */
}

static void on_resumed(struct quiesce *q, const struct fault *f)
{
	(void)q;
	link_answer(&link_, LINK_RESUME, f);
}

static bool host_waits(struct power *p)
{
	(void)p;
	return false;
}

static void set_up_once(void)
{
	static bool done;
	if (done)
		return;
	done = true;
	cgroup_pool_init_none(&execs.cgroups);
	execs.base.ns_fd = -1;
	box = (struct box){.loop = &loop, .base = &execs.base, .identity = &identity, .done = on_configured};
	power = (struct power){
		.loop = &loop, .execs = &execs, .box = &box, .quiesce = &quiesce, .host_waits = host_waits};
	/* The machine is not ours: nothing is frozen, and of a Resume only the generation is done. */
	quiesce = (struct quiesce){.loop = &loop,
				   .execs = &execs,
				   .identity = &identity,
				   .upper_fd = &box.upper_fd,
				   .resumed = on_resumed};
	link_.loop = &loop;
	link_.identity = &identity;
	link_.execs = &execs;
	link_.box = &box;
	link_.power = &power;
	link_.quiesce = &quiesce;
	identity_init(&identity);
	if (loop_init(&loop, NULL) < 0 || execs_init(&execs, &loop, &link_.streams.watch, NULL) < 0 ||
	    box_init(&box, NULL) < 0 || link_init(&link_, NULL) < 0)
		abort();
	power_init(&power);
	quiesce_init(&quiesce);
}

/* Rows as they are in the middle of a life: ids of sixteen 'a', 'b', 'c'. */
static void put_rows(void)
{
	static const enum exec_state states[ROWS] = {EXEC_RUNNING, EXEC_EXITED, EXEC_ABORTED};
	for (int i = 0; i < ROWS; i++) {
		uint8_t id[EXEC_ID_SIZE];
		memset(id, 'a' + i, sizeof id);
		int row = exec_table_take(&execs.table, id);
		struct exec_row *r = exec_table_row(&execs.table, row);
		execs.slots[row] = (struct exec_slot){.owner = &execs,
						      .in = {.fd = -1},
						      .out = {.fd = -1},
						      .err = {.fd = -1},
						      .error = {.fd = -1}};
		r->state = states[i];
		r->session = NOBODY;
		r->out[0].ring.end = 40000;
		r->out[1].eof = states[i] == EXEC_EXITED;
		r->out[0].eof = r->out[1].eof;
	}
}

static void take_rows_away(void)
{
	for (int i = exec_table_next(&execs.table, -1); i >= 0; i = exec_table_next(&execs.table, i)) {
		timer_clear(&execs.slots[i].timer);
		execs_release(&execs, i);
	}
	execs.table.arena->buried = 0;
	power.stage = POWER_ON;
	identity.clone_generation = 0;
	timer_clear(&power.tick);
}

static void read_all(int fd)
{
	uint8_t buf[65536];
	while (read(fd, buf, sizeof buf) > 0)
		;
}

static void send_hello(int fd)
{
	uint8_t frame[64] = {0};
	Tenon__Hello h = TENON__HELLO__INIT;
	h.role = TENON__ROLE__ROLE_MAIN;
	h.host_epoch = link_.epoch + 1;
	size_t n = FRAME_HELLO_PREFIX + tenon__hello__get_packed_size(&h);
	frame_put_header(frame, &(struct frame){.len = (uint32_t)n, .type = FRAME_HELLO});
	frame_put_hello_prefix(frame + FRAME_HEADER_SIZE);
	tenon__hello__pack(&h, frame + FRAME_HEADER_SIZE + FRAME_HELLO_PREFIX);
	if (write(fd, frame, FRAME_HEADER_SIZE + n) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	set_up_once();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	put_rows();
	link_accept(&link_, pair[1]);
	send_hello(pair[0]);
	for (size_t at = 0; at < size;) {
		ssize_t n = send(pair[0], data + at, size - at, MSG_NOSIGNAL);
		if (n < 0)
			break;
		at += (size_t)n;
		loop_turn(&loop, 1);
		while (link_turn(&link_))
			;
		read_all(pair[0]);
	}
	loop_turn(&loop, 1);
	while (link_turn(&link_))
		;
	close(pair[0]);
	/* A worker that was forked just now may hold our end a moment longer. */
	for (uint64_t end = clock_mono() + 5 * NSEC_PER_SEC; link_.main && clock_mono() < end;) {
		loop_turn(&loop, 1);
		link_turn(&link_);
	}
	if (link_.main)
		abort(); /* a connection that has ended is noticed */
	take_rows_away();
	return 0;
}
