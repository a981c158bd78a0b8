/* Read before each source of the agent that is counted: valgrind does not know a clone that shares its memory
 * and is no vfork, so there a child is a fork. */
#pragma once

#include "guest/exec/rawcall.h"

static inline long raw_fork(void (*fn)(void *), void *arg)
{
	long r = raw_call(SYS_fork, 0, 0, 0, 0);
	if (r == 0)
		fn(arg);
	return r;
}

#define raw_clone(nr, a, b, fn, arg) ((void)(a), (void)(b), raw_fork(fn, arg))
