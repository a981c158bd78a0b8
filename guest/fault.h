/* Why a request was refused: a struct err with what the wire adds to it. */
#pragma once

#include "proto/err.h"
#include "proto/tenon.pb-c.h"

struct fault {
	Tenon__Code code;
	const char *field; /* static string: the request field at fault ("exec.cwd"), or NULL */
	const char *path;  /* FILE_FAILED: the file at fault, until the fault is told; or NULL */
	struct err err;    /* err.errnum goes on the wire for EXEC_FAILED, FILE_FAILED, PORT_FAILED and failed
			      steps of    Configure */
};

/* Fill *f and return -errnum of a plausible errno, so that callers can `return fault_…(f, …)`. */
int fault_invalid(struct fault *f, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int fault_exhausted(struct fault *f, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int fault_code(struct fault *f, Tenon__Code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* FILE_FAILED: the step ("openat", "rename") failed with errnum on path, which must last until the fault is
 * told. */
int fault_file(struct fault *f, const char *stage, int errnum, const char *path);
