/* qemu-img as a child process, a file of its making at the end of which there is no doubt: it is written
 * under another name, synced, renamed, and the directory synced. Never on the loop: neither the program nor
 * the waiting for the disk. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "proto/err.h"

struct img;

#define IMG_STEPS 3

struct img_config {
	uv_loop_t *loop;
	/* Command lines, run in turn: qemu-img's own words, or ours ("rm"). Copied. */
	const char *const *steps[IMG_STEPS];
	/* After the last one `part` is synced and becomes `final`. NULL: it is a file that is changed in
	 * place. */
	const char *part, *final;
	unsigned deadline_ms; /* of each step */
	void *arg;
	/* Exactly once, later, unless cancelled. e NULL: done. ENOSPC where the program's words say so. */
	void (*done)(void *arg, const struct err *e);
};
int img_run(struct img **out, const struct img_config *c, struct err *e);
/* done will not run; the program is killed, `part` removed. Not after done has run. NULL is fine. */
void img_cancel(struct img *i);
/* Has the program end early; done still tells of it, when it is gone. */
void img_stop(struct img *i);
