/* Where the agent rings once when it listens (WIRE.md §1). Any guest process can dial here: that somebody did is a
 * hint, what he says is not read. */
#pragma once

#include <uv.h>

#include "proto/err.h"

struct doorbell;

/* Listens on run_dir/vsock.sock_1001, replacing what lies there. */
int doorbell_create(struct doorbell **out, uv_loop_t *loop, const char *run_dir, void (*rung)(void *arg), void *arg,
		    struct err *e);
void doorbell_destroy(struct doorbell *d); /* NULL is fine */
