/* What a log directory holds after whatever happened to its writer (WIRE.md §7, Opening). Blocking: for the
 * writer thread. */
#pragma once

#include "host-shim/daemon/executions/record.h"
#include "proto/err.h"

struct log_segment {
	uint64_t position; /* of its first byte, and its name */
	uint64_t bytes;    /* size of the file */
};

struct recovered_log {
	struct log_segment *segments; /* in order; owned */
	size_t count;
	struct log_point end; /* after the last record */
	uint8_t *exit;        /* payload of the exit record; owned, NULL if there is none */
	size_t exit_len;
};

/* Reads every record of the log in `dir`, cuts the newest segment where it stops making sense, deletes newest
 * segments that have no header. A missing directory is an empty log. -errno if the disk fails; *out is then
 * empty. */
int recover_log(const char *dir, const uint8_t id[LOG_ID_SIZE], struct recovered_log *out, struct err *e);
void recovered_log_finish(struct recovered_log *l);
