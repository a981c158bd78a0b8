/* The box's root, built in a mount namespace of its own, so that the agent outlives it and opens no path in
 * it. */
#pragma once

#include "guest/box/device.h"
#include "guest/worker.h"
#include "proto/err.h"

struct root_device {
	char name[DEVICE_NAME_MAX]; /* under /dev */
	char fstype[32];            /* of the kernel */
};

struct root_plan {
	enum { ROOT_INITRAMFS, ROOT_OVERLAY, ROOT_DEVICE } kind;
	struct root_device lower; /* OVERLAY: read-only */
	struct root_device upper; /* OVERLAY: writable; DEVICE: the root itself */
};

/* What is handed over, each -1 where there is none. */
enum root_fd {
	ROOT_NS,    /* the mount namespace, whose root is the box's */
	ROOT_PTS,   /* its /dev/pts */
	ROOT_UPPER, /* the root directory of its writable file system */
};

/* In a worker, which is in the namespace afterwards, its root the box's. INITRAMFS: the agent's own file
 * systems, but whatever is mounted later is the box's alone. */
int root_build(const struct root_plan *p, int fds[WORKER_FDS], struct err *e);
