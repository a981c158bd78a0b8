/* KVM or TCG. A /dev/kvm that opens is no proof: some hosts create the VM and never run it. So a kernel is booted
 * under KVM once per boot of the host, and the answer is kept. */
#pragma once

#include <uv.h>

#include "proto/err.h"

struct accel;

/* result: "kvm" or "tcg" (a literal). why: in words, for the log. */
typedef void (*accel_done_fn)(void *arg, const char *result, const char *why);

struct accel_config {
	uv_loop_t *loop;
	const char *kernel;
	const char *cache_dir; /* where the answer is kept; it is void after a reboot of the host */
	accel_done_fn done;    /* exactly once, perhaps before accel_probe returns; the strings are valid during it */
	void *arg;
};
int accel_probe(struct accel **out, const struct accel_config *c, struct err *e);
/* done will not run any more. NULL is fine. */
void accel_destroy(struct accel *a);
