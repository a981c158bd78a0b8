/* A corrupt handover and a corrupt row of the arena, as an upgraded agent would meet them: refused, or gone
 * on with within every bound. Two bytes say how long the row's part is (the highest bit: of one that has
 * exited); that part is what is wrong with the row, so that zeros are none; then comes the handover. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/upgrade/restore.h"

#define NOBODY 0x3fffffff /* a pid that Linux does not give out */
#define NO_FD 4000

static struct exec_table table;
static struct loop loop;
static struct execs execs;
static struct box box;
static struct identity identity;

static void on_news(struct exec_watch *w, int row, unsigned news)
{
	(void)w;
	if (news & EXEC_NEWS_FREE)
		execs_release(&execs, row);
}

static void set_up_once(void)
{
	static struct exec_watch watch = {on_news};
	if (table.arena)
		return;
	cgroup_pool_init_none(&execs.cgroups);
	execs.base.ns_fd = -1;
	box = (struct box){.loop = &loop, .base = &execs.base, .identity = &identity};
	if (exec_table_init(&table, NULL) < 0 || loop_init(&loop, NULL) < 0 ||
	    execs_init(&execs, &loop, &watch, NULL) < 0 || box_init(&box, NULL) < 0)
		abort();
}

static struct exec_row valid_row(bool exited)
{
	struct exec_row r = {.state = exited ? EXEC_EXITED : EXEC_RUNNING,
			     .pid = 2,
			     .session = 2,
			     .error_fd = -1,
			     .cgroup = -1};
	exec_input_init(&r.in, exited ? -1 : 3);
	r.out[0].fd = r.out[1].fd = 3;
	r.out[0].ring.end = 1000;
	if (exited) {
		r.pid = 0;
		r.out[0].fd = r.out[1].fd = -1;
		r.out[0].eof = r.out[1].eof = true;
	}
	return r;
}

/* Whatever it says, no process and no descriptor of this one is meant. */
static void defuse(struct exec_row *r)
{
	r->pid = r->pid > 0 ? NOBODY : r->pid;
	r->session = r->session > 1 ? NOBODY : r->session;
	r->in.fd = r->in.fd >= 0 ? NO_FD : -1;
	r->out[0].fd = r->out[0].fd >= 0 ? NO_FD : -1;
	r->out[1].fd = r->out[1].fd >= 0 ? NO_FD : -1;
	r->error_fd = r->error_fd >= 0 ? NO_FD : -1;
}

static void adopt_row(bool exited, const uint8_t *wrong, size_t n)
{
	static const uint8_t id[EXEC_ID_SIZE] = {7};
	struct exec_row *r = exec_table_row(&table, exec_table_take(&table, id));
	*r = valid_row(exited);
	for (size_t i = 0; i < n && i < sizeof *r; i++)
		((uint8_t *)r)[i] ^= wrong[i];
	defuse(r);
	if (execs_adopt(&execs, dup(table.memfd), NULL) < 0)
		abort();
	for (int i = exec_table_next(&execs.table, -1); i >= 0; i = exec_table_next(&execs.table, i)) {
		const struct exec_window windows[2] = {{0, 100}, {0, 100}};
		struct fault f;
		execs_attach(&execs, i, windows, &f);
		execs_credit(&execs, i, CHANNEL_STDOUT, 50, 200);
		execs_ack(&execs, i, &f);
	}
	for (int i = exec_table_next(&execs.table, -1); i >= 0; i = exec_table_next(&execs.table, i)) {
		timer_clear(&execs.slots[i].timer);
		execs_release(&execs, i);
	}
	table.arena->buried = 0;
}

/* The message, with the layout of this very program behind: the last value of a field counts. */
static const Tenon__Handover *parse(const uint8_t *message, size_t n)
{
	static uint8_t bytes[65536], scratch[HANDOVER_SCRATCH];
	Tenon__Handover layout = TENON__HANDOVER__INIT;
	layout.arena_layout = exec_table_layout();
	if (n > sizeof bytes - 64)
		return NULL;
	memcpy(bytes, "TNHAND\r\n", 8);
	memcpy(bytes + 12, message, n);
	n += tenon__handover__pack(&layout, bytes + 12 + n);
	wire_put_u32(bytes + 8, (uint32_t)n);
	struct bump b;
	bump_init(&b, scratch, sizeof scratch);
	return handover_parse(bytes, n + 12, &b, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	set_up_once();
	size_t n = (data[0] | (size_t)data[1] << 8) & 0x7fff, rest = size - 2;
	n = n < rest ? n : rest;
	adopt_row(data[1] & 0x80, data + 2, n);

	const Tenon__Handover *h = parse(data + 2 + n, rest - n);
	if (!h)
		return 0;
	handover_check(h, &table, NULL);
	restore_identity(&identity, h);
	restore_box(&box, h);
	box.base->ns_fd = -1;
	return 0;
}
