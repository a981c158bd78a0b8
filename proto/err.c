#include "proto/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int fill(struct err *e, const char *stage, int errnum, const char *fmt, va_list ap)
{
	if (errnum == 0)
		errnum = EIO;
	if (e) {
		e->stage = stage;
		e->errnum = errnum;
		vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	}
	return -errnum;
}

int err_set(struct err *e, const char *stage, int errnum, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = fill(e, stage, errnum, fmt, ap);
	va_end(ap);
	return r;
}

int err_sys(struct err *e, const char *stage, int errnum, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = fill(e, stage, errnum, fmt, ap);
	va_end(ap);
	if (e) {
		size_t used = strlen(e->msg);
		snprintf(e->msg + used, sizeof e->msg - used, ": %s", strerror(-r));
	}
	return r;
}
