/* A box's tenon-vmm, from its spawn (or from our finding it again) to its end. Its process is watched through
 * a pidfd and stopped by signal, which can neither miss nor hit another; vmm.sock is for questions. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "process.h"
#include "proto/err.h"

struct vmm;

struct vmm_disk {
	char path[4096]; /* raw */
	bool read_only;
};

struct vmm_config { /* strings are borrowed during vmm_spawn, but for run_dir, which must live as long as the
		       vmm */
	uv_loop_t *loop;
	const char *vmm_path, *run_dir, *state_dir;
	const char *kernel, *initrd, *append, *machine, *accel;
	unsigned cpus, memory_mib;
	bool network;                 /* a network card */
	const char *lower, *upper;    /* read-only raw image, writable qcow2 disk */
	const struct vmm_disk *disks; /* further ones, behind those two */
	size_t n_disks;
	void *arg;
	/* QEMU runs (e NULL), or it never will; ended follows. At most once. */
	void (*ready)(void *arg, const struct err *e);
	/* tenon-vmm is gone, and QEMU with it. Exactly once; the owner destroys the vmm here. */
	void (*ended)(void *arg);
};

/* Forks tenon-vmm, which waits: its identity is committed before vmm_release lets it begin. */
int vmm_spawn(struct vmm **out, const struct vmm_config *c, struct err *e);
void vmm_release(struct vmm *v);
/* Finds one again, of which only loop, run_dir, arg and ended are needed. -ESRCH if it is gone. */
int vmm_adopt(struct vmm **out, const struct vmm_config *c, const struct process_id *id, struct err *e);

const struct process_id *vmm_identity(const struct vmm *v);
int vmm_qemu_pid(const struct vmm *v); /* 0 until known */
/* Ends the VM without asking the guest: TERM, on which tenon-vmm has QEMU flush its disks and quit, then
 * KILL. Idempotent; `ended` tells. */
void vmm_stop(struct vmm *v);
/* Stops watching; the VM goes on if it runs. NULL is fine. */
void vmm_destroy(struct vmm *v);
