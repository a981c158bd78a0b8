/* The file systems and links that programs expect in a root, whatever the image holds. */
#pragma once

#include "proto/err.h"

/* Mounts /proc, /sys, /dev and what is below them into the current root, as containers have them but not cut
 * down: the VM is the boundary. /run and /tmp are the image's own, made if missing. Runs in a worker with the
 * box's root as its own, so that a link in the image leads nowhere else. */
int furniture_place(struct err *e);
