/* One box from start to end: QEMU, its vsock device, its sockets, its logs, and how it ended. */
#pragma once

#include "exit_record.h"
#include "listener.h"
#include "loop.h"
#include "network.h"
#include "options.h"
#include "qemu.h"
#include "qmp.h"
#include "rotlog.h"
#include "vhost_user.h"
#include "vmm_sock.h"
#include "vsock.h"

enum box_phase { BOX_STARTING, BOX_RUNNING, BOX_STOPPING, BOX_ENDED };

struct box {
	const struct options *options;
	int state_dir; /* borrowed */
	int ready_fd;  /* borrowed; -1 once it has been told */
	struct loop loop;
	enum box_phase phase;

	struct qemu qemu;
	struct network network;
	struct qmp qmp;
	struct vsock vsock;
	struct vhost_user vhost_user;
	struct listener listener;
	struct vmm_sock vmm_sock;
	struct rotlog console, log;

	struct loop_source signals, qemu_exit, network_exit, console_src, output_src;
	int signal_fd;
	struct loop_timer deadline; /* of the start, then of the stop */

	const char *run_state;  /* QMP's */
	const char *end_reason; /* why we end it; NULL: QEMU or the guest did */
	char end_message[256];
	char shutdown_cause[32]; /* the reason of QMP's SHUTDOWN event */
	char last_output[256];   /* QEMU's last line on stderr */
	struct exit_record record;
	char vsock_path[128], vmm_path[128];
};

/* Runs the box until it ends; returns the process's exit status: 0 if it had started. Everything about its
 * end is in exit.json and vmm.log by then. state_dir: an fd; ready_fd: -1 or where to say "ready". */
int box_run(struct box *b, const struct options *o, int state_dir, int ready_fd);
