/* /proc/loadavg, proc(5). */
#pragma once

#include <stdint.h>

#define LOADAVG_TERMS 3 /* 1, 5, 15 minutes */

/* In thousandths. Pure. */
void loadavg_parse(const char *text, uint32_t milli[LOADAVG_TERMS]);
