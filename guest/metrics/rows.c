#include "guest/metrics/rows.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "guest/exec/cgroup.h"

#define ATTEMPTS 4

static bool look(const struct exec_table *t, int row, struct row_view *v)
{
	const struct exec_row *r = exec_table_row(t, row);
	enum exec_state state = *(const volatile enum exec_state *)&r->state;
	bool used = *(const volatile uint64_t *)&t->arena->used[row / 64] >> row % 64 & 1;
	atomic_thread_fence(memory_order_acquire);
	memset(v, 0, sizeof *v); /* padding too: views are compared whole */
	memcpy(v->id, r->id, EXEC_ID_SIZE);
	v->row = row;
	v->cgroup = r->cgroup;
	v->session = r->session;
	v->used_before = r->used_before;
	atomic_thread_fence(memory_order_acquire);
	return used && state != EXEC_FREE && state != EXEC_ABORTED && v->cgroup >= -1 &&
	       v->cgroup < CGROUP_POOL;
}

static bool copy(const struct exec_table *t, int row, struct row_view *v)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		struct row_view again;
		if (!look(t, row, v))
			return false;
		if (look(t, row, &again) && memcmp(v, &again, sizeof again) == 0)
			return true;
	}
	return false;
}

static int compare(const void *a, const void *b)
{
	return memcmp(((const struct row_view *)a)->id, ((const struct row_view *)b)->id, EXEC_ID_SIZE);
}

int rows_copy(const struct exec_table *t, struct row_view views[EXEC_ROWS])
{
	int n = 0;
	for (int row = exec_table_next(t, -1); row >= 0; row = exec_table_next(t, row))
		n += copy(t, row, &views[n]);
	qsort(views, (size_t)n, sizeof *views, compare);
	return n;
}

bool rows_stand(const struct exec_table *t, const struct row_view *v)
{
	struct row_view now;
	return copy(t, v->row, &now) && memcmp(v, &now, sizeof now) == 0;
}
