/* The file systems that Configure asks for beside the root. */
#pragma once

#include <stdbool.h>

#include "guest/box/device.h"
#include "guest/fault.h"
#include "guest/memory.h"

#define MOUNTS_MAX 64

struct mount_plan {
	char source[DEVICE_NAME_MAX + 8]; /* kernel name of a device, or tag; empty: tmpfs */
	char fstype[32];
	char *target, *options;
	bool read_only;
};

struct mounts {
	struct mount_plan plan[MOUNTS_MAX];
	size_t n;
};

/* Checks and copies; strings are in *store. */
int mounts_take(struct mounts *m, struct bump *store, Tenon__Mount *const *req, size_t n, struct fault *f);

/* Loads what they need of kernel modules. Before the box's root is entered: the modules are the agent's. */
int mounts_load_modules(const struct mounts *m, struct err *e);

/* Mounts them in their order, in a worker with the box's root as its own. Targets are made with their
 * parents; no link of the image leads out of the box. A writable ext4 is grown to its device's size. */
int mounts_place(const struct mounts *m, struct err *e);
