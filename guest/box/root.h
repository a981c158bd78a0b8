/* The box's root, built in a mount namespace of its own, so that the agent outlives it and opens no path in
 * it. Runs in a worker: it may block, and when
 * it fails the end of its process undoes everything. */
#pragma once

#include "guest/worker.h"
#include "proto/err.h"

struct root_device {
	char name[32];   /* under /dev */
	char fstype[32]; /* of the kernel */
};

struct root_plan {
	enum { ROOT_INITRAMFS, ROOT_OVERLAY, ROOT_DEVICE } kind;
	struct root_device lower; /* OVERLAY: read-only */
	struct root_device upper; /* OVERLAY: writable; DEVICE: the root itself */
};

/* A worker's work; arg: struct root_plan (not INITRAMFS). fds[0] becomes the namespace, whose root is the
 * box's. */
int root_build(void *arg, int fds[WORKER_FDS], struct err *e);
