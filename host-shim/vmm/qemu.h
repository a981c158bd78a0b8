/* QEMU's command line and process.
 *
 * The machine's layout is part of every memory snapshot, so none of this may move (bus pcie.0,
 * slot.function):
 * - 02.0: virtio-rng-pci, id rng0
 * - 03.0: pcie-root-port, id vsock-port, chassis 1; behind it vhost-user-vsock-pci, id vsock0
 * - 04.0 to 04.7: eight pcie-root-ports, id plug0 to plug7, chassis 2 to 9: empty, for hot-plug
 * - 05.0: virtio-net-pci, id nic0, of a box with a network
 * - 08.0 to 0f.0: virtio-blk-pci, id disk0 to disk7, in the order given: vda, vdb and so on
 *
 * 1f and 00 are q35's own. The first serial port is the console.
 *
 * microvm has no PCI and so no plugs: rng0, vsock0, nic0 and the disks keep their slots' order (qemu.c,
 * add_virtio), and nothing can be added or taken while it runs. */
#pragma once

#include "options.h"
#include "proto/err.h"

#include <sys/types.h>

struct qemu {
	pid_t pid; /* 0: not started, or reaped */
	int pidfd;
	int vhost, qmp, console, output; /* our ends of what QEMU inherited; the owner steals them */
};

/* The child's, as the command line names them; net is -1 for a machine without a network card. */
struct qemu_fds {
	int vhost, qmp, console, net;
};

/* Starts QEMU, which gets SIGKILL from the kernel when this process (this thread) dies. vhost and qmp are
 * stream sockets, console a stream socket that QEMU writes the serial port to, output a pipe with its stdout
 * and stderr; console and output are non-blocking. net: a datagram socket for the network card, borrowed, or
 * -1. On error nothing runs and nothing is open. */
int qemu_start(struct qemu *q, const struct options *o, int net, struct err *e);

/* The command line, NULL-terminated. NULL if memory is short. For qemu_start and tests. */
char **qemu_argv(const struct options *o, const struct qemu_fds *fds);
void qemu_argv_free(char **argv);

/* SIGKILL; harmless when it is gone. */
void qemu_kill(const struct qemu *q);

/* Takes the exit status (as waitpid(2)) once pidfd is readable. 0 if it still runs, 1 with *status set. */
int qemu_reap(struct qemu *q, int *status);

void qemu_finish(struct qemu *q);
