/* Files made under a hidden name beside the one they are to become, and then renamed over it: who looks sees
 * the old one or the new one, whole. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define BESIDE_NAME 24

struct beside {
	int dir;                /* not owned */
	char name[BESIDE_NAME]; /* empty: there is none */
};

#define BESIDE_NONE ((struct beside){.dir = -1})
#define _cleanup_beside_ __attribute__((cleanup(beside_discard)))

/* Each returns -errno. The file belongs to the caller's user and has no permissions for others. */
int beside_file(struct beside *b, int dir); /* a descriptor to write to */
int beside_node(struct beside *b, int dir, mode_t type, dev_t device);
int beside_symlink(struct beside *b, int dir, const char *target);
int beside_link(struct beside *b, int dir, int from_dir, const char *from);

/* Gives it its name. no_replace: -EEXIST if something has it already. A directory is never replaced: -EISDIR.
 */
int beside_install(struct beside *b, int dir, const char *name, bool no_replace);
void beside_discard(struct beside *b);
