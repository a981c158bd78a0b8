/* The executions there are, read in a worker while the agent goes on changing them. */
#pragma once

#include "guest/exec/table.h"

struct row_view {
	uint8_t id[EXEC_ID_SIZE];
	int row, cgroup; /* -1: none */
	pid_t session;
	struct usage used_before;
};

/* Those that started and are not over, in the order of their ids: how many. A row that changes too fast is
 * left out: it has ended, or begins only now. */
int rows_copy(const struct exec_table *t, struct row_view views[EXEC_ROWS]);

/* Whether v's row is still that execution's. */
bool rows_stand(const struct exec_table *t, const struct row_view *v);
