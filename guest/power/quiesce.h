/* Making the machine fit to be copied, and going on in the copy or in the original (WIRE.md §5). Nothing here
 * blocks: what may is in workers, and the cgroup tells by an event that it is frozen. */
#pragma once

#include <stdbool.h>

#include "guest/boot/identity.h"
#include "guest/box/settings.h"
#include "guest/exec/exec.h"
#include "guest/loop.h"
#include "guest/net/net.h"
#include "guest/worker.h"

enum quiesce_stage {
	QUIESCE_OFF,
	QUIESCE_STARTS, /* waits for the starts under way: a child frozen before its execve would be given up
			 */
	QUIESCE_FREEZING, /* waits for the cgroup */
	QUIESCE_WRITING,  /* a worker: sync, FIFREEZE, caches */
	QUIESCE_HOLDS,
	QUIESCE_RESUMING, /* a worker: network, FITHAW */
	QUIESCE_THAWING,  /* a worker: FITHAW. The workload runs already */
};

/* How long what is under way may take; the last is a copy's network, whose interface may have to be probed.
 */
#define QUIESCE_FREEZE_MS 12000
#define QUIESCE_WRITE_MS 60000
#define QUIESCE_RESUME_MS 30000

struct quiesce {
	struct loop *loop;
	struct execs *execs;
	struct identity *identity;
	const int *upper_fd; /* the box's writable file system, or -1 */
	bool own_machine;
	/* The outcome of a Quiesce or of a Resume, for all who asked; NULL: success. */
	void (*quiesced)(struct quiesce *q, const struct fault *f);
	void (*resumed)(struct quiesce *q, const struct fault *f);
	void (*thawed_itself)(struct quiesce *q);

	enum quiesce_stage stage;
	bool froze; /* Quiesce is in force, also while it resumes */
	bool keep_caches;
	struct source events; /* cgroup.events */
	int events_fd;
	struct timer starts;   /* looks whether they are over */
	struct timer deadline; /* of STARTS and FREEZING */
	struct timer patience; /* max_frozen_ms */
	struct worker writer, thawer;
	int writer_end; /* pidfd of the last writer: only when it has ended is the file system ours to thaw */
	int fs;         /* upper_fd, as the workers have it */
	uint64_t old_generation;
	struct settings settings; /* of a Resume */
	struct net_plan net;
};

void quiesce_init(struct quiesce *q);

/* Begins, or joins the one under way; quiesced follows, perhaps before this returns. -errno with *f: refused.
 */
int quiesce_begin(struct quiesce *q, const Tenon__Quiesce *req, struct fault *f);

/* Likewise, with resumed. A Quiesce that is not done yet is given up. */
int quiesce_resume(struct quiesce *q, const Tenon__Resume *req, struct fault *f);

/* Thaws everything without waiting for it: the machine goes down. */
void quiesce_stop(struct quiesce *q);

/* Whether nothing may be started. */
static inline bool quiesce_frozen(const struct quiesce *q)
{
	return q->froze;
}
