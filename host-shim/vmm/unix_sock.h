/* Unix stream sockets by path. */
#pragma once

#include "proto/err.h"

/* Listens at path (mode by the umask), replacing what a killed predecessor left. Non-blocking, close-on-exec.
 * Returns the fd or -errno; -ENAMETOOLONG when path does not fit into sun_path (108 bytes with its NUL). */
int unix_sock_listen(const char *path, struct err *e);

/* Connects without waiting: an fd, or -errno (ENOENT and ECONNREFUSED: nobody listens; EAGAIN: the
 * listener's backlog is full). */
int unix_sock_connect(const char *path, struct err *e);
