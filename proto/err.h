/* Errors: a function returns 0 (or a count) on success and a negative errno on failure, and fills an
 * optional struct err with where and why. Errors travel up by value; only the top logs them, once. */
#pragma once

#include <stdarg.h>

struct err {
	const char *stage; /* static string: the step that failed, in the wire's words ("execve", "chdir") */
	int errnum;        /* positive errno; 0 means no error */
	char msg[160];     /* one sentence for people, no trailing newline, always NUL-terminated */
};

/* Fills *e (which may be NULL) and returns -errnum, so that callers can `return err_set(...)`.
 * errnum: positive errno; 0 is taken as EIO, since a failure must not look like success.
 * stage: a string that outlives the error (a literal). The message is cut at sizeof msg - 1. */
int err_set(struct err *e, const char *stage, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* err_set with ": strerror(errnum)" appended to the message. */
int err_sys(struct err *e, const char *stage, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
