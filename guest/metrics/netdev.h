/* /proc/net/dev, proc(5). */
#pragma once

#include <stdbool.h>

#include "proto/bulk.pb-c.h"

/* The interface at or after *text, which is moved behind it; false if there is no more. u->name points into
 * the text. Pure. */
bool netdev_next(const char **text, Tenon__NetworkUse *u);
