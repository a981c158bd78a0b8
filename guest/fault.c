#include "guest/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static int fill(struct fault *f, Tenon__Code code, const char *field, int errnum, const char *fmt, va_list ap)
{
	*f = (struct fault){.code = code, .field = field};
	vsnprintf(f->err.msg, sizeof f->err.msg, fmt, ap);
	return -errnum;
}

int fault_invalid(struct fault *f, const char *field, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = fill(f, TENON__CODE__CODE_INVALID_ARGUMENT, field, EINVAL, fmt, ap);
	va_end(ap);
	return r;
}

int fault_exhausted(struct fault *f, const char *field, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = fill(f, TENON__CODE__CODE_RESOURCE_EXHAUSTED, field, ENOMEM, fmt, ap);
	va_end(ap);
	return r;
}

int fault_unsupported(struct fault *f, const char *field, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = fill(f, TENON__CODE__CODE_UNSUPPORTED, field, EOPNOTSUPP, fmt, ap);
	va_end(ap);
	return r;
}

int fault_code(struct fault *f, Tenon__Code code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = fill(f, code, NULL, EPROTO, fmt, ap);
	va_end(ap);
	return r;
}

int fault_file(struct fault *f, const char *stage, int errnum, const char *path)
{
	*f = (struct fault){.code = TENON__CODE__CODE_FILE_FAILED, .path = path};
	return err_sys(&f->err, stage, errnum, "%s", stage);
}
