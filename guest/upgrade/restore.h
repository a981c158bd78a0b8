/* The new program's side of an upgrade: what it was left, its test of that, and going on from there. */
#pragma once

#include "guest/boot/identity.h"
#include "guest/box/box.h"
#include "guest/link/link.h"
#include "guest/upgrade/handover.h"

/* The handover that our arguments name, "--upgraded FD" at the end or "--self-test FD": its descriptor, or
 * -1. Nobody but the program before us can have left one: PID 1's arguments may come from the kernel's
 * command line, which cannot open a sealed memfd. */
int restore_find(int argc, char **argv, const char *option);

/* The whole of a self-test: reads the handover and everything it names, changes nothing. The exit status: 0
 * if this program could go on from there, after HANDOVER_PASSED on stderr; else 1, after a line that says why
 * not. */
int restore_self_test(int handover_fd);

/* Parts of the agent, each after its init, become what they were. What cannot be had again is logged and done
 * without. */
void restore_cgroups(struct cgroup_pool *p, const Tenon__Handover *h);
/* When cgroups and link are ready. False: the executions are lost, so this is to be a boot of its own. All
 * descriptors that were handed over are closed to children again. */
bool restore_execs(struct execs *x, const Tenon__Handover *h);
void restore_identity(struct identity *id, const Tenon__Handover *h);
void restore_box(struct box *b, const Tenon__Handover *h);
/* The bulk workers of the program before us end when their operations have. Before anything is reaped. */
void restore_workers(const Tenon__Handover *h);
