/* Directories of the box by path, in a worker whose root is the box's. Links are followed as the box would
 * follow them, but none that /proc makes up: those lead out of it (openat2(2), RESOLVE_IN_ROOT and
 * RESOLVE_NO_MAGICLINKS). */
#pragma once

/* Opens (O_PATH) an absolute directory, made with its parents where they are missing. Returns the descriptor
 * or -errno. */
int inroot_make_dir(const char *path);
