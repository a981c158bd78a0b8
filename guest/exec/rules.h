/* Seccomp rules in the form of the OCI runtime specification, linux.seccomp. */
#pragma once

#include "guest/fault.h"

#define RULES_NAMES_MAX 4096 /* in all rules of one filter */
#define RULES_NAME_MAX 64    /* bytes of a name */

/* Whether rules are ones that can be built: 0, or -errno with *f naming the field. Pure. */
int rules_check(const Tenon__SeccompRules *rules, struct fault *f);

/* Writes their program, in the kernel's form (seccomp(2)), to fd. Allocates, so for a worker. rules: checked
 * ones. -errno with *e. */
int rules_build(const Tenon__SeccompRules *rules, int fd, struct err *e);
