/* Stands between this terminal and an execution until it ends: output out, input in, signals through.
 * Survives a restart of tenond: the stream is taken up where it broke. */
#pragma once

#include <stdbool.h>

#include "api.h"

/* path: "/boxes/B/executions/X". with_stdin: forward ours and its end. tty: it has a terminal, whose size
 * follows ours; with stdin, too, ours is raw meanwhile. The exit code for our own exit, 0–255; -1 with e when
 * the end could not be learned. SIGINT, SIGTERM, SIGQUIT, SIGHUP and SIGWINCH must be blocked by the caller.
 */
int follow(struct api *a, const char *path, bool with_stdin, bool tty, struct api_error *e);
