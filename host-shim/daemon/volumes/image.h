/* The file of a volume's disk. These calls block: they are for a thread of their own. */
#pragma once

#include <stdint.h>

#include "proto/err.h"

/* Makes path a copy of the template with its holes, as long as size bytes (at least the template's), and on
 * the disk when this returns. Replaces what is there; what fails leaves nothing. */
int image_make(const char *path, const char *template, uint64_t size, struct err *e);
