/* Configure: what makes this machine that box: boot step 2, so that one booted machine can become any
 * box. */
#pragma once

#include <stdbool.h>

#include "guest/boot/identity.h"
#include "guest/box/build.h"
#include "guest/box/settings.h"
#include "guest/exec/spawn.h"
#include "guest/fault.h"
#include "guest/loop.h"
#include "guest/memory.h"
#include "guest/worker.h"

struct box {
	struct loop *loop;
	struct spawn_base *base; /* gets the environment, the namespace and its terminals */
	struct identity *identity;
	bool own_machine; /* PID 1. Else hostname, clock and random pool are the host's and are left alone */
	void (*done)(struct box *b, const struct fault *f); /* of the Configure under way; NULL: success */

	bool configured;
	int upper_fd; /* the root of the writable file system, or -1 */
	struct worker builder;
	uint8_t *store; /* of what a Configure says, until it fails */
	char **env;
	size_t n_env;
	struct settings settings;
	struct build_plan plan;
};

int box_init(struct box *b, struct err *e);

/* Goes on as what an earlier program configured: its environment ("NAME=value", copied) and its namespace,
 * taken, or -1. -ENOMEM if the environment does not fit. */
int box_adopt(struct box *b, const ProtobufCBinaryData *env, size_t n_env, const int fds[WORKER_FDS]);

/* Begins a Configure, or joins the one under way; done follows, perhaps before this returns. -errno with *f:
 * refused. */
int box_configure(struct box *b, const Tenon__Configure *req, struct fault *f);

/* The machine goes down: a Configure under way ends, as failed. */
void box_stop(struct box *b);
