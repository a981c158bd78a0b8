/* The bulk operation Upgrade, in its worker: takes the new program from the host, has the agent try it, and
 * tells the host what came of it. */
#pragma once

#include "guest/bulk/bulk.h"

#define UPGRADE_SIZE_MAX (16 * 1024 * 1024)

/* A bulk_op. It ends, with its connection, when the agent has become the new program. */
int upgrade_receive(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		    struct fault *f);
