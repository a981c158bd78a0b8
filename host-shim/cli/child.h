/* The host's own programs, as cp's hands: tar(1), cp(1), rm(1). */
#pragma once

#include <sys/types.h>

/* Starts argv with one end of a pipe as its stdin (for_input) or stdout; *fd is the other end. -1 after a
 * complaint. */
pid_t child_pipe(const char *const *argv, int for_input, int *fd);
/* Whether it ended well. */
int child_succeeded(pid_t pid);
/* Both, for a program that needs no pipe. */
int child_run(const char *const *argv);
