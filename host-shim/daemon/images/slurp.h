/* Whole small files. Used by tenond and by tenon-flatten. */
#pragma once

#include <stddef.h>

#include "proto/err.h"

/* What is left of fd, at most max bytes, malloced and NUL-terminated. -EBADMSG if there is more. */
int slurp(int fd, size_t max, char **out, size_t *len, struct err *e);
