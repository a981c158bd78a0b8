/* Entries of an archive, made beneath a folder. What replaces something is made whole beside it. */
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include "guest/files/beside.h"
#include "guest/files/dirs.h"

struct unpack {
	struct archive *archive;
	const struct where *target; /* for faults: what the request named */
	struct owner owner;
	bool keep_owner, devices, no_clobber;
	struct dirs dirs;    /* the folder, once it is known */
	char name[PATH_MAX]; /* of the entry, cleaned; empty: the folder itself */
};

/* The entry's name below the folder, into u->name. An absolute one, or one with "..", fails. */
int unpack_name(struct unpack *u, struct archive_entry *e, struct fault *f);

/* An ordinary file with contents of its own. */
bool unpack_is_file(struct archive_entry *e);

/* Makes the entry at u->name. fresh: the folder itself was made for this archive. 0 or -errno; no *f means
 * that the archive could not be read. */
int unpack_entry(struct unpack *u, struct archive_entry *e, bool fresh, struct fault *f);

/* A file's contents and attributes into *b in dir, and putting it in its place, for a caller that knows the
 * place only after the contents. */
int unpack_contents(struct unpack *u, struct archive_entry *e, struct beside *b, int dir, struct fault *f);
int unpack_install(struct unpack *u, struct beside *b, struct fault *f);

/* FILE_FAILED for the entry. */
int unpack_fail(const struct unpack *u, const char *stage, int errnum, struct fault *f);
