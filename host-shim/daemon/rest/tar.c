#include "internal.h"

/* Folders and files as tar, in both directions, by docker cp's rules; the agent has them. */

void rest_put_tar(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	bool overwrite = true;
	if (!b || !rest_where(r, &at) ||
	    (http_query(r, "overwrite") && http_query_flag(r, "overwrite", &overwrite) < 0))
		return;
	Tenon__TarIn tar = TENON__TAR_IN__INIT;
	tar.at = &at;
	tar.no_clobber = !overwrite;
	tar.owner = rest_owner(b);
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_TAR_IN;
	req.tar_in = &tar;
	rest_upload(r, b, &req);
}

static bool head(struct http_request *r, const Tenon__BulkResponse *answer, unsigned *status,
		 uint64_t *length)
{
	(void)answer;
	(void)status;
	(void)length;
	http_set_header(r, "Content-Type", "application/x-tar");
	return true;
}

void rest_get_tar(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	bool follow;
	if (!b || !rest_where(r, &at) || http_query_flag(r, "follow_symlinks", &follow) < 0)
		return;
	Tenon__TarOut tar = TENON__TAR_OUT__INIT;
	tar.at = &at;
	tar.follow = follow;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_TAR_OUT;
	req.tar_out = &tar;
	rest_download(r, b, &req, head);
}
