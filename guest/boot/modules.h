/* Kernel modules of the initramfs, loaded in the order of a list: there is no modprobe. */
#pragma once

#include "proto/err.h"

/* Loads the files that the list names, one to a line, from the list's own folder. A missing list is an empty
 * one (a kernel with everything built in); what is loaded already is fine. Tries them all and returns the
 * first error. */
int modules_load(const char *list, struct err *e);
