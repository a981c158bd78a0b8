/* What the host is told unasked: that the OOM killer has struck, that the disk fills up. */
#pragma once

#include <stdbool.h>

#include "guest/exec/exec.h"
#include "guest/loop.h"

struct watch {
	struct loop *loop;
	struct execs *execs;
	void (*tell)(struct watch *w, const Tenon__Event *event);

	struct source oom; /* memory.events of all executions */
	int oom_fd;
	const int *upper_fd; /* the writable file system, or -1 */
	struct timer look;   /* at the disk */
	bool low;
};

/* Watches nothing yet. */
void watch_init(struct watch *w);

/* From now on the executions' memory, where they have cgroups. */
void watch_oom(struct watch *w);

/* From now on the disk too: at once, then every 30 s. */
void watch_disk(struct watch *w);

/* Whether a disk is low, that was or was not before: below a tenth free it is, above an eighth it is not, and
 * in between it is what it was. Pure. */
bool watch_is_low(bool was, uint64_t free, uint64_t total);
