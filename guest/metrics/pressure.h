/* /proc/pressure and its like, accounting/psi of the kernel's documentation. */
#pragma once

#include "proto/bulk.pb-c.h"

/* Older kernels have no "full" line for the processors: it stays 0. Pure. */
void pressure_parse(const char *text, Tenon__Pressure *p);
