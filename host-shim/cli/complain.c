#include <stdarg.h>
#include <stdio.h>

#include "commands.h"

int complain(const char *fmt, ...)
{
	va_list ap;
	fputs("tenon: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_TENON;
}
