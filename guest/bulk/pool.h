/* The agent's side of bulk connections: a worker for each. */
#pragma once

#include "guest/bulk/bulk.h"
#include "guest/worker.h"

#define BULK_MAX 256

struct bulk_pool {
	struct loop *loop;
	struct bulk_context context;                            /* what each gets */
	void (*offered)(struct worker *w, int fds[WORKER_FDS]); /* upgrade_receive's word */
	int used;                                               /* of workers, the others were never needed */
	struct worker workers[BULK_MAX];
};

/* Forks a worker that serves fd from here on; pending: what was read from it already. The caller closes its
 * own fd. Returns 0, or -errno with *f. */
int bulk_pool_start(struct bulk_pool *p, int fd, const uint8_t *pending, size_t n, struct fault *f);
