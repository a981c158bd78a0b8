#include "state.h"

#include <errno.h>
#include <string.h>

#define NEVER (-1)

/* clang-format off: it is read by its columns */
/*                            start         up            stop            ended        failed */
static const signed char next[BOX_STATES][BOX_EVENTS] = {
	[BOX_CONFIGURED] = {BOX_STARTING, NEVER, BOX_CONFIGURED, NEVER, NEVER},
	/* Powered off before it was up: for those who wait for the start that is a failure. */
	[BOX_STARTING] = {BOX_STARTING, BOX_RUNNING, BOX_STOPPING, BOX_FAILED, BOX_FAILED},
	[BOX_RUNNING] = {BOX_RUNNING, NEVER, BOX_STOPPING, BOX_STOPPED, BOX_FAILED},
	/* A start that comes now waits for the end; an agent that comes up now is stopped all the same. */
	[BOX_STOPPING] = {BOX_STOPPING, BOX_STOPPING, BOX_STOPPING, BOX_STOPPED, BOX_STOPPED},
	[BOX_STOPPED] = {BOX_STARTING, NEVER, BOX_STOPPED, NEVER, NEVER},
	[BOX_FAILED] = {BOX_STARTING, NEVER, BOX_FAILED, NEVER, NEVER},
};
/* clang-format on */

static const char *const names[BOX_STATES] = {
	[BOX_CONFIGURED] = "configured", [BOX_STARTING] = "starting", [BOX_RUNNING] = "running",
	[BOX_STOPPING] = "stopping",     [BOX_STOPPED] = "stopped",   [BOX_FAILED] = "failed",
};

int state_next(enum box_status now, enum box_event event)
{
	return next[now][event];
}

const char *state_name(enum box_status s)
{
	return names[s];
}

int state_parse(enum box_status *out, const char *name)
{
	for (int s = 0; s < BOX_STATES; s++) {
		if (name && strcmp(name, names[s]) == 0) {
			*out = (enum box_status)s;
			return 0;
		}
	}
	return -EINVAL;
}

bool state_has_vm(enum box_status s)
{
	return s == BOX_STARTING || s == BOX_RUNNING || s == BOX_STOPPING;
}
