/* mkdir -p, beneath what a request may reach. */
#pragma once

#include "guest/files/owner.h"
#include "guest/files/where.h"

/* Makes what is missing of w's path: all of it, or all but its last part. Mode 0755 and *o. made: whether the
 * last of them was; may be NULL. -errno with *f. */
int parents_make(const struct where *w, bool last_too, const struct owner *o, bool *made, struct fault *f);

/* The same for the first n bytes of some other path that begins where w's does; -errno only. path has room
 * for n + 1 and is changed meanwhile. */
int parents_make_path(const struct where *w, char *path, size_t n, const struct owner *o, bool *made);

/* One directory of that owner and exactly that mode. -errno. */
int parents_make_dir(int dir, const char *name, mode_t mode, const struct owner *o);
