/* Stand-ins for boxes/ and executions/, so that http/ and rest/ can be tried over real sockets without a
 * guest. */
#pragma once

#include "host-shim/daemon/executions/executions.h"

void fake_execution_start(struct executions *xs, const char *box_id, const struct exec_spec *spec,
			  execution_started_fn done, void *arg);
