/* What a child does between clone and execve, in the agent's memory on a stack of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

#define CHILD_PATH_MAX 4096

/* The steps in their order. Their names go on the wire. */
enum child_step {
	CHILD_SPAWN, /* has not begun, or died on the way without a word */
	CHILD_SETNS,
	CHILD_STDIO,
	CHILD_TTY,
	CHILD_RLIMIT,
	CHILD_CHDIR,
	CHILD_EXECVE,
};

/* What the child is told; constant from clone on but for the last three fields, which only the child writes.
 */
struct child {
	char *const *argv;
	char *const *envp;
	const char *cwd;
	const char *search; /* the PATH to look argv[0] up in; NULL if it has a slash */
	int stdio[3];
	bool tty;     /* they are a terminal's */
	int error_fd; /* close-on-exec; ends when the child is past execve or gone */
	int ns_fd;    /* the box's mount namespace, or -1 to stay */
	struct rlimit nofile;
	size_t size; /* bytes that this and all it points to take, from its address on */

	volatile int step;     /* enum child_step: where it is */
	volatile int errnum;   /* of the step that failed */
	volatile int execving; /* the mark of EXEC.md: inside execve, or past it */
};

/* Never returns. arg: struct child. */
void child_main(void *arg);

/* "execve". */
const char *child_step_name(enum child_step step);

/* Writes "dir/name" into path, where dir is the first element of the list *search, and moves *search to the
 * next one (NULL after the last). An empty element is the working directory. Returns 0, or -ENAMETOOLONG.
 * Pure; POSIX.1-2017, 8.3. */
int child_path_next(const char **search, const char *name, char path[CHILD_PATH_MAX]);
