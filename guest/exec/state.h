/* The table of proto/EXEC.md: what an execution's state makes of an event. Pure: no kernel, no row. */
#pragma once

#include <stdint.h>

enum exec_state {
	EXEC_FREE, /* zero, so that fresh arena memory is free rows */
	EXEC_SPAWNING,
	EXEC_ABORTED,
	EXEC_RUNNING,
	EXEC_STOPPING,
	EXEC_KILLED,
	EXEC_EXITED,
	EXEC_ACKED,
	EXEC_STATES,
};

enum exec_event {
	EXEC_ON_STARTED,    /* execve succeeded */
	EXEC_ON_FAILED,     /* it did not, or a step before it */
	EXEC_ON_CHILD_EXIT, /* waitpid returned it */
	EXEC_ON_KILL,
	EXEC_ON_TIMEOUT, /* of the execution; while SPAWNING, the spawn deadline */
	EXEC_ON_GRACE_OVER,
	EXEC_ON_ACK,
	EXEC_ON_DRAINED, /* not an edge: told after every other event and every credit for as long as it is
			    true */
	EXEC_EVENTS,
};

/* What a transition asks for, in the order of doing it. */
enum exec_action {
	EXEC_DO_LOG = 1 << 0, /* cannot happen: say so */
	EXEC_DO_REFUSE = 1 << 1,
	EXEC_DO_DISARM = 1 << 2, /* timeout and grace */
	EXEC_DO_TERM = 1 << 3,   /* TERM to everything in it, mark timed_out */
	EXEC_DO_KILL = 1 << 4,   /* KILL to everything in it */
	EXEC_DO_ARM_TIMEOUT = 1 << 5,
	EXEC_DO_ARM_GRACE = 1 << 6,
	EXEC_DO_ANSWER = 1 << 7, /* the waiting Exec: it runs */
	EXEC_DO_ANSWER_FAILED = 1 << 8,
	EXEC_DO_ANSWER_TIMEOUT = 1 << 9,
	EXEC_DO_RECORD = 1 << 10,       /* make the exit record and send it */
	EXEC_DO_FINISH_GRACE = 1 << 11, /* a grace still armed is carried out now */
	EXEC_DO_TOMBSTONE = 1 << 12,
};

struct exec_transition {
	enum exec_state next; /* EXEC_FREE: the row goes */
	uint16_t actions;     /* enum exec_action bits */
};

struct exec_transition exec_state_step(enum exec_state state, enum exec_event event);

/* For the log: "RUNNING". */
const char *exec_state_name(enum exec_state state);
