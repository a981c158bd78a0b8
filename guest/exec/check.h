/* What is true of every row between two events, for a program that gets its rows from another one. */
#pragma once

#include "guest/exec/table.h"

/* 0 if r can be gone on with by a program that did not start it: its numbers are within their bounds and fit
 * its state, which is neither FREE nor SPAWNING nor ABORTED. Else -EINVAL with *e. Looks at no descriptor.
 * Pure. */
int exec_check_row(const struct exec_row *r, struct err *e);
