#include "guest/metrics/census.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/memory.h"

#define ENTRIES_MAX (1 << 20)
#define SIZE (ENTRIES_MAX * sizeof(struct census_entry))

static int compare(const void *a, const void *b)
{
	pid_t x = ((const struct census_entry *)a)->pid, y = ((const struct census_entry *)b)->pid;
	return (x > y) - (x < y);
}

static const struct census_entry *find(const struct census *c, pid_t pid)
{
	const struct census_entry key = {.pid = pid};
	return bsearch(&key, c->entries, (size_t)c->n, sizeof key, compare);
}

/* Parents are read while they change, so that even a circle has to end. */
static bool descends(const struct census *c, const struct census_entry *e)
{
	for (int i = 0; e && i < c->n; i++, e = find(c, e->ppid))
		if (e->ppid == c->agent)
			return true;
	return false;
}

static void count(struct census *c, bool own_machine)
{
	for (int i = 0; i < c->n; i++) {
		struct census_entry *e = &c->entries[i];
		c->workers += e->ppid == c->agent && e->session == c->agent_stat.session;
		e->ours = e->ours && (own_machine || descends(c, e));
		c->processes += e->ours;
		c->running += e->ours && e->runs;
	}
}

int census_take(struct census *c, const struct bulk_context *ctx)
{
	struct proc_walk walk;
	*c = (struct census){.agent = getppid()};
	int r = proc_read_stat(ctx->proc_fd, c->agent, &c->agent_stat);
	if (r == 0)
		r = proc_walk_begin(&walk, ctx->proc_fd);
	if (r < 0)
		return r;
	c->entries = memory_reserve(SIZE);
	if (!c->entries)
		r = -ENOMEM;
	for (pid_t pid; r == 0 && (pid = proc_walk_next(&walk)) > 0;) {
		struct proc_stat s;
		if (proc_read_stat(ctx->proc_fd, pid, &s) < 0)
			continue;
		bool ours = !s.kernel && s.session != c->agent_stat.session;
		if (c->n < ENTRIES_MAX)
			c->entries[c->n++] =
				(struct census_entry){pid, s.ppid, s.session, ours, s.state == 'R'};
		else
			r = -E2BIG;
	}
	proc_walk_end(&walk);
	qsort(c->entries, (size_t)c->n, sizeof *c->entries, compare);
	count(c, ctx->own_machine);
	return r;
}

void census_drop(struct census *c)
{
	if (c->entries)
		munmap(c->entries, SIZE);
	c->entries = NULL;
}

const struct row_view *census_execution(const struct census *c, pid_t pid, const struct row_view *views,
					int n)
{
	const struct census_entry *e = find(c, pid);
	for (int depth = 0; e && e->ours && depth < c->n; depth++, e = find(c, e->ppid))
		for (int i = 0; i < n; i++)
			if (views[i].session == e->session)
				return &views[i];
	return NULL;
}
