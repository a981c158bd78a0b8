/* vmm.sock: what tenond asks of this process, in frames (proto/WIRE.md §2, §3, §8; proto/vmm.proto). Only the
 * same user and root may ask. A client that breaks the rules loses its connection and nothing else. */
#pragma once

#include "loop.h"
#include "proto/err.h"
#include "qmp.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define VMM_SOCK_CLIENTS_MAX 16
#define VMM_SOCK_CALLS_MAX 16 /* unanswered, per client */
#define VMM_SOCK_REQUEST_MAX (68 * 1024)
#define VMM_SOCK_REPLY_MAX (64 * 1024)
#define VMM_SOCK_OUT_MAX (256 * 1024) /* a client that does not read its answers is dropped there */
#define VMM_SOCK_CONSOLE_MAX 61440

struct vmm_status {
	pid_t vmm_pid, qemu_pid;
	uint64_t vmm_start_ticks, started_ns;
	const char *qemu_state;
	unsigned connections;
	uint64_t to_guest_bytes, from_guest_bytes;
};

/* The verbs behind the socket. ctx is the caller's. */
struct vmm_sock_ops {
	void (*status)(void *ctx, struct vmm_status *s);
	/* Ends QEMU; vmm_sock_stopped follows when it is done. Idempotent. */
	void (*stop)(void *ctx, unsigned deadline_ms);
	int (*qmp)(void *ctx, const json_t *command, unsigned deadline_ms, qmp_done_fn done, void *done_ctx,
		   struct err *e);
	ssize_t (*console)(void *ctx, void *buf, size_t cap, uint64_t *end);
};

struct vmm_client;

struct vmm_sock {
	struct loop *loop;
	const struct vmm_sock_ops *ops;
	void *ctx;
	int fd;
	struct loop_source src;
	struct vmm_client *clients;
	unsigned n_clients;
};

int vmm_sock_init(struct vmm_sock *s, struct loop *loop, const char *path, const struct vmm_sock_ops *ops,
		  void *ctx, struct err *e);

/* QEMU is gone and exit.json written: answers every Stop. */
void vmm_sock_stopped(struct vmm_sock *s);
void vmm_sock_finish(struct vmm_sock *s);
