/* The log writer: one thread that runs jobs in the order they were handed over, so that no write(2) to a disk
 * ever holds up the loop. It knows nothing of logs. */
#pragma once

#include <stddef.h>
#include <sys/queue.h>
#include <uv.h>

#include "proto/err.h"

struct writer;

/* Embedded in its owner, which keeps it alive until done has run. */
struct writer_job {
	STAILQ_ENTRY(writer_job) link;
	int (*run)(struct writer_job *job);               /* writer thread; returns 0 or -errno */
	void (*done)(struct writer_job *job, int status); /* loop thread, in order; may free the job */
	int status;
};

int writer_create(struct writer **out, uv_loop_t *loop, struct err *e);
/* Finishes what was submitted, runs its done functions, then stops the thread. NULL is fine. */
void writer_destroy(struct writer *w);
void writer_submit(struct writer *w, struct writer_job *job);
