/* Everything of a Configure that may block, in a worker. */
#pragma once

#include "guest/box/etc.h"
#include "guest/box/mounts.h"
#include "guest/box/root.h"
#include "guest/net/net.h"

struct build_plan {
	struct root_plan root;
	struct mounts mounts;
	struct etc_plan etc;
	struct net_plan net;
};

/* A worker's work; arg: struct build_plan. Modules, root, mounts, files, network; fds as enum root_fd. What
 * fails is undone before it is reported, so that the next Configure finds everything free. */
int build_box(void *arg, int fds[WORKER_FDS], struct err *e);

/* The request field that a step of build_box is about, for its error. */
const char *build_field(const char *stage);
