#include "guest/metrics/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "guest/metrics/census.h"
#include "guest/metrics/cputimes.h"
#include "guest/scan.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define TEXT_SIZE 8192 /* a path in "cgroup" has 4,096 bytes at most, "status" names its user early */
#define BATCH_MAX 512  /* processes in one, if they are small */
#define BATCH_PACKED (FRAME_PAYLOAD_MAX - 16) /* what is around them */

/* One EVENT in the making. */
struct batch {
	int n;
	size_t packed, used;
	Tenon__ProcessInfo infos[BATCH_MAX], *pointers[BATCH_MAX];
	char bytes[FRAME_PAYLOAD_MAX]; /* names and commands */
};

struct listing {
	struct channel *ch;
	struct census census;
	int proc_fd;
	bool cgroups;
	struct row_view *views;
	int n_views;
	uint64_t boot_ns; /* CLOCK_REALTIME when the ticks began */
	uint64_t page, total;
	struct batch *batch;
	char *text;
};

static int flush(struct listing *l)
{
	struct batch *b = l->batch;
	Tenon__ProcessList list = TENON__PROCESS_LIST__INIT;
	list.n_processes = (size_t)b->n;
	list.processes = b->pointers;
	Tenon__BulkEvent event = TENON__BULK_EVENT__INIT;
	event.kind_case = TENON__BULK_EVENT__KIND_PROCESSES;
	event.processes = &list;
	l->total += (uint64_t)b->n;
	b->n = 0;
	b->packed = b->used = 0;
	return channel_give_event(l->ch, &event);
}

static const struct row_view *execution(const struct listing *l, int dir, pid_t pid)
{
	if (!l->cgroups)
		return census_execution(&l->census, pid, l->views, l->n_views);
	int cgroup = scan_file(dir, "cgroup", l->text, TEXT_SIZE) < 0 ? -1 : cgroup_parse(l->text);
	for (int i = 0; cgroup >= 0 && i < l->n_views; i++)
		if (l->views[i].cgroup == cgroup)
			return &l->views[i];
	return NULL;
}

/* A file of the process, into the batch. */
static bool take_bytes(struct batch *b, int dir, const char *file, size_t max, ProtobufCBinaryData *out)
{
	long n = scan_file(dir, file, b->bytes + b->used, max + 1);
	*out = (ProtobufCBinaryData){n < 0 ? 0 : (size_t)n, (uint8_t *)b->bytes + b->used};
	b->used += out->len;
	return n >= 0;
}

/* All through one descriptor of its folder, which never comes to mean another process. False: it has gone. */
static bool take_process(struct listing *l, pid_t pid, Tenon__ProcessInfo *p)
{
	char name[16];
	struct proc_stat s;
	snprintf(name, sizeof name, "%d", pid);
	_cleanup_close_ int dir = openat(l->proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || scan_file(dir, "stat", l->text, TEXT_SIZE) < 0 || proc_parse_stat(l->text, &s) < 0)
		return false;
	if (s.kernel || s.session == l->census.agent_stat.session)
		return false; /* a stranger that has the number now */
	if (scan_file(dir, "status", l->text, TEXT_SIZE) < 0)
		return false;
	*p = (Tenon__ProcessInfo)TENON__PROCESS_INFO__INIT;
	p->pid = (uint32_t)pid;
	p->ppid = (uint32_t)s.ppid;
	p->uid = proc_parse_user(l->text);
	p->state = (uint8_t)s.state;
	p->started_ticks = s.started_ticks;
	p->started_ns = scan_sum(l->boot_ns, scan_times(s.started_ticks, CPUTIMES_TICK_US * 1000));
	p->user_us = scan_times(s.user_ticks, CPUTIMES_TICK_US);
	p->system_us = scan_times(s.system_ticks, CPUTIMES_TICK_US);
	p->rss_bytes = scan_times(s.rss_pages, l->page);
	p->threads = scan_u32(s.threads);
	const struct row_view *x = execution(l, dir, pid);
	if (x)
		p->exec_id = (ProtobufCBinaryData){EXEC_ID_SIZE, (uint8_t *)x->id};
	if (!take_bytes(l->batch, dir, "comm", PROCESSES_NAME, &p->name) ||
	    !take_bytes(l->batch, dir, "cmdline", PROCESSES_COMMAND, &p->command))
		return false;
	if (p->name.len > 0)
		p->name.len--; /* its newline */
	return true;
}

static int give_processes(struct listing *l)
{
	struct batch *b = l->batch;
	int r = 0;
	for (int i = 0; r == 0 && i < l->census.n; i++) {
		size_t used = b->used;
		Tenon__ProcessInfo *p = &b->infos[b->n];
		if (!l->census.entries[i].ours)
			continue;
		if (!take_process(l, l->census.entries[i].pid, p)) {
			b->used = used;
			continue;
		}
		b->pointers[b->n++] = p;
		b->packed += tenon__process_info__get_packed_size(p) + 4; /* its key and length */
		if (b->n == BATCH_MAX || b->packed + PROCESSES_PACKED > BATCH_PACKED)
			r = flush(l);
	}
	if (r == 0 && b->n > 0)
		r = flush(l);
	return r < 0 ? r : channel_end(l->ch, l->total);
}

static int list(struct listing *l, const struct bulk_context *ctx, struct fault *f)
{
	l->views = bump_alloc(&l->ch->scratch, EXEC_ROWS * sizeof *l->views);
	l->batch = bump_alloc(&l->ch->scratch, sizeof *l->batch);
	l->text = bump_alloc(&l->ch->scratch, TEXT_SIZE);
	if (!l->views || !l->batch || !l->text)
		return fault_exhausted(f, NULL, "no room for a list of processes");
	l->batch->n = 0;
	l->batch->packed = l->batch->used = 0;
	int r = census_take(&l->census, ctx);
	if (r == -E2BIG)
		return fault_exhausted(f, NULL, "more than %d processes", l->census.n);
	if (r < 0) {
		fault_code(f, TENON__CODE__CODE_INTERNAL, "/proc cannot be read");
		return r;
	}
	l->n_views = rows_copy(&ctx->execs->table, l->views);
	r = channel_answer_done(l->ch);
	return r < 0 ? r : give_processes(l);
}

int processes_list(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		   struct fault *f)
{
	(void)req;
	struct listing l = {
		.ch = ch,
		.proc_fd = ctx->proc_fd,
		.cgroups = ctx->execs->cgroups.root >= 0,
		.boot_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME),
		.page = (uint64_t)sysconf(_SC_PAGESIZE),
	};
	int r = list(&l, ctx, f);
	census_drop(&l.census);
	return r;
}
