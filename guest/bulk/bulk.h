/* Bulk connections in their worker: which operation is whose. */
#pragma once

#include "guest/boot/identity.h"
#include "guest/bulk/channel.h"
#include "guest/exec/exec.h"

/* What of the agent an operation may look at. The worker is a fork: all of it is as it was then, but for what
 * is shared memory (the table's arena). */
struct bulk_context {
	const struct execs *execs;
	const struct identity *identity;
	int upper_fd; /* a folder of the box's writable file system, or -1 */
	int proc_fd;  /* the agent's own /proc, whatever the box has mounted over its own */
	bool own_machine;
};

/* One operation. Returns 0 when it went to its end, its RSP and EOF included; -errno with *f when it failed,
 * to be told by the caller; -ECONNRESET without more when the connection is dead. */
typedef int bulk_op(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		    struct fault *f);

/* One operation to its end, a failure told. -errno: the connection is dead. */
int bulk_serve_one(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx);
/* Serves operations until the host leaves. */
void bulk_serve(struct channel *ch, const struct bulk_context *ctx);
