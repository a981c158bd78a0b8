/* Signals, which all arrive at one descriptor, and the one place that waits for children. */
#pragma once

#include "guest/exec/exec.h"
#include "guest/loop.h"
#include "guest/power/power.h"
#include "guest/upgrade/upgrade.h"
#include "guest/worker.h"

struct reaper {
	struct source source;
	int fd;
	struct execs *execs;
	struct power *power;
	struct upgrade *upgrade;
};

/* Blocks every signal of this process and resets their dispositions: children then inherit defaults, and a
 * write to a closed pipe is EPIPE. Starts to listen for SIGCHLD and for the signals that mean shutdown. */
int reaper_init(struct reaper *r, struct loop *loop, struct err *e);

/* Reaps whoever has ended, orphans too. */
void reaper_run(struct reaper *r);
