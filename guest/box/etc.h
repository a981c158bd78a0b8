/* The files of /etc that say who the box is and whom it asks: hosts, resolv.conf, hostname. */
#pragma once

#include "guest/fault.h"
#include "guest/memory.h"

#define ETC_FILE_MAX 65536

struct etc_plan {
	/* Contents; NULL: the file is left as it is. */
	char *hosts, *resolv_conf;
	const char *hostname;
};

/* Checks and copies hosts and resolv_conf; the copies are in *store. They are text: a NUL is refused. */
int etc_take(struct etc_plan *p, struct bump *store, const Tenon__Configure *req, struct fault *f);

/* Writes them, in a worker with the box's root as its own. The name itself is replaced: where the image has a
 * link (as systemd's of resolv.conf into /run), a file takes its place, and what it pointed to stays as it
 * is. /etc is made if it is missing. The stage of an error is the name of the request's field. */
int etc_write(const struct etc_plan *p, struct err *e);
