/* The life of a box as a table. Every change of a box's status goes through state_next; boxes/box.c does what a
 * new state asks for. */
#pragma once

#include <stdbool.h>

#include "boxes.h"

enum box_event {
	EVENT_START,  /* somebody wants it to run */
	EVENT_UP,     /* the agent is configured */
	EVENT_STOP,   /* somebody wants it to end */
	EVENT_ENDED,  /* nothing of the VM is left, as was wished by us or by the guest */
	EVENT_FAILED, /* nothing of the VM is left, and nobody wished it */
};
#define BOX_STATES (BOX_FAILED + 1)
#define BOX_EVENTS (EVENT_FAILED + 1)

/* The next status (the same one: nothing changes), or -1: cannot happen. */
int state_next(enum box_status now, enum box_event event);
/* "running", as in the database. */
const char *state_name(enum box_status s);
/* -EINVAL for a word that is none. */
int state_parse(enum box_status *out, const char *name);
/* A VM belongs to it, or may: after a crash it has to be looked for. */
bool state_has_vm(enum box_status s);
