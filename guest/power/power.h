/* The orderly end: TERM, grace, KILL, unmount, sync, power off; each step with a deadline, with or without a
 * host. */
#pragma once

#include <stdbool.h>

#include "guest/box/box.h"
#include "guest/exec/exec.h"
#include "guest/loop.h"
#include "guest/power/quiesce.h"
#include "guest/worker.h"

#define POWER_LAST_FDS 4

enum power_stage {
	POWER_ON,
	POWER_STOPPING,   /* TERM was sent */
	POWER_KILLING,    /* KILL was sent */
	POWER_UNMOUNTING, /* a worker gives up the box's mounts and syncs */
	POWER_OFF,        /* a plain host's agent ends; a machine does not get to see it */
};

struct power {
	struct loop *loop;
	struct execs *execs;
	struct box *box;
	struct quiesce *quiesce;
	bool own_machine; /* PID 1: signals everybody and switches off */
	/* Whether a host is connected, and if so whether something is still on its way to it. */
	bool (*host_waits)(struct power *p);

	enum power_stage stage;
	struct timer tick;
	uint64_t deadline; /* of the stage */
	struct worker unmounter;
	int last_fds[POWER_LAST_FDS]; /* the worker's: the box's, and the end of a pipe */
};

void power_init(struct power *p);

/* Begins the end; grace_ms 0: 5000. A second call changes nothing. */
void power_shutdown(struct power *p, uint32_t grace_ms);

static inline bool power_shutting_down(const struct power *p)
{
	return p->stage != POWER_ON;
}
