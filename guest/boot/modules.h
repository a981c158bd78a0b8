/* Kernel modules of the initramfs, loaded in the order of a list: there is no modprobe. */
#pragma once

#include "proto/err.h"

/* Loads the files that the list names, one to a line, from the list's own folder. A missing list is an empty
 * one; what is loaded already is fine, and so is a kernel without modules, whose drivers are built in: what
 * it lacks shows where it is used. Tries them all and returns the first error. */
int modules_load(const char *list, struct err *e);
