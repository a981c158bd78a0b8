/* Who is at the other end of a socket, if it is a process of this machine. */
#pragma once

#include <sys/types.h>

/* The user of the process that holds the other end: of a unix socket as it was at connect(2), of a TCP
 * connection over loopback as sock_diag(7) says. -ENOENT if it is another machine's or nobody holds it any
 * more; else what the kernel has against telling. Blocks for a lookup in the kernel's tables. */
int peer_uid(int fd, uid_t *out);
