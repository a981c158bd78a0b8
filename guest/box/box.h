/* Configure: what makes this machine that box: boot step 2, so that one booted machine can become any
 * box. */
#pragma once

#include <stdbool.h>

#include "guest/boot/identity.h"
#include "guest/box/root.h"
#include "guest/exec/spawn.h"
#include "guest/fault.h"
#include "guest/loop.h"
#include "guest/memory.h"
#include "guest/worker.h"

#define BOX_SEED_MAX 512
#define BOX_HOSTNAME_MAX 64

struct box {
	struct loop *loop;
	struct spawn_base *base; /* gets the environment and the namespace */
	struct identity *identity;
	bool own_machine; /* PID 1. Else hostname, clock and random pool are the host's and are left alone */
	void (*done)(struct box *b, const struct fault *f); /* of the Configure under way; NULL: success */

	bool configured;
	struct worker worker; /* builds the root */
	uint8_t *store;       /* of what a Configure says, until it fails */
	char **env;
	size_t n_env;
	char hostname[BOX_HOSTNAME_MAX + 1];
	uint64_t realtime_ns;
	uint8_t seed[BOX_SEED_MAX];
	size_t seed_len;
	struct root_plan plan;
};

int box_init(struct box *b, struct err *e);

/* Goes on as what an earlier program configured: its environment ("NAME=value", copied) and its namespace,
 * taken, or -1. -ENOMEM if the environment does not fit. */
int box_adopt(struct box *b, const ProtobufCBinaryData *env, size_t n_env, int ns_fd);

/* Begins a Configure, or joins the one under way; done follows, perhaps before this returns. -errno with *f:
 * refused. */
int box_configure(struct box *b, const Tenon__Configure *req, struct fault *f);
