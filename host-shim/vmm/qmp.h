/* The client of QEMU's monitor (QEMU docs/interop/qmp-spec): one JSON object per line, commands answered by
 * id. */
#pragma once

#include "loop.h"
#include "proto/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define QMP_LINE_MAX (256 * 1024)
#define QMP_OUT_MAX (128 * 1024)
#define QMP_PENDING_MAX 16

struct qmp;

/* The reply, without its id ({"return": …} or {"error": …}; valid during the call), or NULL with the
 * reason: the deadline passed or the monitor closed. */
typedef void (*qmp_done_fn)(void *ctx, const json_t *reply, const struct err *e);

struct qmp_pending {
	struct qmp *qmp;
	uint64_t id; /* 0: free */
	qmp_done_fn done;
	void *ctx;
	struct loop_timer deadline;
};

struct qmp {
	struct loop *loop;
	int fd;
	struct loop_source src;
	char *in; /* QMP_LINE_MAX */
	size_t in_len;
	char *out; /* QMP_OUT_MAX */
	size_t out_len;
	uint64_t last_id;
	struct qmp_pending pending[QMP_PENDING_MAX];

	void (*ready)(struct qmp *q);                                       /* greeted, commands are taken */
	void (*event)(struct qmp *q, const char *name, const json_t *data); /* data may be NULL */
	void (*closed)(struct qmp *q, const struct err *e);
};

/* Takes over fd in every case; the three callbacks are set by the caller afterwards, before the loop turns.
 */
int qmp_init(struct qmp *q, struct loop *loop, int fd, struct err *e);
void qmp_finish(struct qmp *q);

/* Sends {"execute": …} (borrowed; an id of the caller is replaced). done is called exactly once, never from
 * within this call, unless the return value is an error: -EINVAL not a command, -EBUSY too many at once,
 * -EMSGSIZE the monitor does not take it, -EPIPE closed. done NULL: nobody cares. */
int qmp_execute(struct qmp *q, const json_t *command, unsigned deadline_ms, qmp_done_fn done, void *ctx,
		struct err *e);

/* Reads and handles what is there, as the loop would: for the last events of a QEMU that has exited. */
void qmp_drain(struct qmp *q);
