#include "guest/bulk/bulk.h"

#include <errno.h>

#include "guest/files/files.h"
#include "guest/metrics/metrics.h"
#include "guest/metrics/processes.h"
#include "guest/net/port.h"

static bulk_op *const ops[] = {
	[TENON__BULK_REQUEST__OP_READ] = files_read,
	[TENON__BULK_REQUEST__OP_WRITE] = files_write,
	[TENON__BULK_REQUEST__OP_TAR_OUT] = files_tar_out,
	[TENON__BULK_REQUEST__OP_TAR_IN] = files_tar_in,
	[TENON__BULK_REQUEST__OP_LIST] = files_list,
	[TENON__BULK_REQUEST__OP_WATCH] = files_watch,
	[TENON__BULK_REQUEST__OP_STAT] = files_stat,
	[TENON__BULK_REQUEST__OP_MAKE_DIR] = files_make_dir,
	[TENON__BULK_REQUEST__OP_REMOVE] = files_remove,
	[TENON__BULK_REQUEST__OP_RENAME] = files_rename,
	[TENON__BULK_REQUEST__OP_CHMOD] = files_chmod,
	[TENON__BULK_REQUEST__OP_CHOWN] = files_chown,
	[TENON__BULK_REQUEST__OP_SET_TIMES] = files_set_times,
	[TENON__BULK_REQUEST__OP_SYMLINK] = files_symlink,
	[TENON__BULK_REQUEST__OP_LINK] = files_link,
	[TENON__BULK_REQUEST__OP_READ_LINK] = files_read_link,
	[TENON__BULK_REQUEST__OP_CONNECT] = port_connect,
	[TENON__BULK_REQUEST__OP_METRICS] = metrics_get,
	[TENON__BULK_REQUEST__OP_PROCESSES] = processes_list,
};

static bulk_op *find(const Tenon__BulkRequest *req)
{
	size_t i = (size_t)req->op_case;
	return i < sizeof ops / sizeof *ops ? ops[i] : NULL;
}

/* One operation to its end. -errno: the connection is dead. */
static int serve(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx)
{
	struct fault f = {.code = TENON__CODE__CODE_OK};
	bulk_op *op = find(req);
	int r;
	if (op)
		r = op(ch, req, ctx, &f);
	else if (req->op_case == TENON__BULK_REQUEST__OP__NOT_SET)
		r = fault_invalid(&f, "op", "the request asks for nothing");
	else
		r = fault_code(&f, TENON__CODE__CODE_UNSUPPORTED, "operation %d is not served",
			       (int)req->op_case);
	if (r >= 0)
		return 0;
	if (r == -ECANCELED && f.code == TENON__CODE__CODE_OK)
		fault_code(&f, TENON__CODE__CODE_DETACHED, "given up by the host");
	return f.code == TENON__CODE__CODE_OK ? r : channel_fail(ch, &f);
}

void bulk_serve(struct channel *ch, const struct bulk_context *ctx)
{
	const Tenon__BulkRequest *req;
	while (channel_next(ch, &req) > 0)
		if (serve(ch, req, ctx) < 0)
			return;
}
