/* Scope-bound ownership: a variable so marked is released when it leaves scope, unless it was stolen.
 * Rule: an fd variable starts at -1, a pointer at NULL; ownership leaves a scope only through a steal. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Close without disturbing errno, so that an error path reports the error and not the close. */
static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_fclose_ __attribute__((cleanup(cleanup_fclose)))
#define _cleanup_closedir_ __attribute__((cleanup(cleanup_closedir)))

/* Hand an fd to a new owner; the old variable becomes -1. */
static inline int steal_fd(int *fd)
{
	int out = *fd;
	*fd = -1;
	return out;
}

/* Hand a pointer to a new owner; the old variable becomes NULL. */
#define steal_ptr(p)                             \
	({                                       \
		__typeof__(*(p)) stolen_ = *(p); \
		*(p) = NULL;                     \
		stolen_;                         \
	})

/* Close and forget, for fds that live in structures. Safe on -1. */
static inline void close_fd(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}
