/* A thread with a pipe to the loop: it does what may block and reads or writes its end as a file, the loop
 * has the other end without waiting. Ends when its function returns. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "proto/err.h"

struct job;

struct job_config {
	uv_loop_t *loop;
	bool to_loop; /* which way the bytes go */
	/* On the thread. fd is its own and is closed after it. *cancelled: nobody wants it any more. */
	void (*work)(void *arg, int fd, const atomic_bool *cancelled);
	void (*ready)(void *arg); /* our end can be read or written again, after it could not */
	/* Work has returned; the job is to be destroyed, here or later. Exactly once, also after job_cancel.
	 */
	void (*ended)(void *arg);
	void *arg;
};
int job_start(struct job **out, const struct job_config *c, struct err *e);
/* As read(2) and write(2); -EAGAIN: ready tells. */
ssize_t job_read(struct job *j, void *buf, size_t max);
ssize_t job_write(struct job *j, const void *buf, size_t len);
void job_close(struct job *j);   /* our end */
void job_cancel(struct job *j);  /* and says so */
void job_destroy(struct job *j); /* after `ended` alone; NULL is fine */
