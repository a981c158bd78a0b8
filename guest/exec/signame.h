/* Signals by their names, as signal(7) has them. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* "TERM", "SIGTERM", "RTMIN+3", "RTMAX-1", in any case. RTMIN is 34, as programs of glibc have it (musl's own
 * is 35), and RTMAX 64. Returns the number, or -EINVAL. */
int signame_parse(const uint8_t *name, size_t len);
