/* What a file has beside its contents, between an archive's entry and the disk. */
#pragma once

#include <archive_entry.h>
#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "guest/files/owner.h"

struct attributes {
	mode_t mode; /* 07777 */
	struct owner owner;
	struct timespec mtime;
};

/* An entry's. Without keep_owner the file belongs to *owner, and has nothing that gives rights: no setuid, no
 * setgid. */
void attributes_of(struct attributes *a, struct archive_entry *e, bool keep_owner, const struct owner *owner);

/* To an open file. In this order, since each undoes some of what the next does. all: not only "user."
 * attributes, which give no rights. What a file system or our rights do not allow of extended attributes is
 * left out. On failure -errno and *stage. */
int attributes_put(int fd, const struct attributes *a, struct archive_entry *xattrs, bool all,
		   const char **stage);

/* The same for what cannot be opened, a link for one, by its name; the mode was given when it was made. */
int attributes_put_at(int dir, const char *name, const struct attributes *a, const char **stage);

/* An open file's extended attributes, into the entry. -errno. */
int attributes_get_xattrs(int fd, struct archive_entry *e);
