/* What a child does between clone and execve, in the agent's memory on a stack of its own. */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/exec/confine.h"
#include "guest/exec/user.h"

#define CHILD_PATH_MAX 4096

/* The steps in their order. Their names go on the wire. */
enum child_step {
	CHILD_SPAWN, /* has not begun, or died on the way without a word */
	CHILD_OOM,
	CHILD_NICE,
	CHILD_SETNS,
	CHILD_STDIO,
	CHILD_TTY,
	CHILD_RLIMIT,
	CHILD_USER,
	CHILD_CHDIR,
	CHILD_BOUNDING,
	CHILD_SETGROUPS,
	CHILD_SETGID,
	CHILD_SETUID,
	CHILD_FILTER,
	CHILD_SECCOMP,
	CHILD_EXECVE,
};

/* A filter that comes later: what the agent says to a child that waits for it. */
enum child_gate { CHILD_GATE_CLOSED, CHILD_GATE_OPEN, CHILD_GATE_FAILED };

/* What the child is told; constant from clone on but for the last fields, which only the child writes, and
 * the gate. In memory that the agent shares even with a child that has a copy of all else. */
struct child {
	char *const *argv;
	char *const *envp;
	const char *cwd;
	const char *search; /* the PATH to look argv[0] up in; NULL if it has a slash */
	int stdio[3];
	bool tty;        /* they are a terminal's */
	int first_owned; /* this one of 0-2 and those above it become the user's */
	int error_fd;    /* close-on-exec; ends when the child is past execve or gone */
	int ns_fd;       /* the box's mount namespace, or -1 to stay */
	struct confine given;
	struct confine_own own;
	const char *user_spec; /* docker's form; NULL: stay who the agent is */
	char *home; /* in the environment: "HOME=" and room for USER_HOME_MAX; NULL: none to fill in */
	struct sock_filter *filter; /* room for FILTER_INSTRUCTIONS_MAX; NULL: none */
	unsigned filter_length;     /* once the gate is open */
	uint32_t gate;              /* enum child_gate, a futex */
	struct err gate_error;      /* once it has failed */
	size_t size;                /* bytes that this and all it points to take, from its address on */

	struct user *user;
	volatile int step;     /* enum child_step: where it is */
	volatile int errnum;   /* of the step that failed */
	volatile int execving; /* the mark of EXEC.md: inside execve, or past it */
};

/* Never returns. arg: struct child. */
void child_main(void *arg);

/* The agent's: lets a child that waits for its filter go on, or fail with c->gate_error. */
void child_open_gate(struct child *c, enum child_gate how);

/* "execve". */
const char *child_step_name(enum child_step step);

/* Writes "dir/name" into path, where dir is the first element of the list *search, and moves *search to the
 * next one (NULL after the last). An empty element is the working directory. Returns 0, or -ENAMETOOLONG.
 * Pure; POSIX.1-2017, 8.3. */
int child_path_next(const char **search, const char *name, char path[CHILD_PATH_MAX]);
