/* Files by the names that a request gives them (message Where), opened so that no name leads out of the
 * folder it is meant to stay beneath. What is to be changed is reached as a directory and a name in it:
 * openat2(2) and the *at calls. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "guest/fault.h"
#include "guest/memory.h"
#include "proto/bulk.pb-c.h"

struct where {
	int base;            /* the folder to stay beneath, or AT_FDCWD */
	const char *path;    /* absolute, or relative to base */
	const char *beneath; /* the name of base, or NULL */
	uint64_t resolve;    /* RESOLVE_* of openat2(2) */
};

/* A directory and a name in it, which is never "." or "..". */
struct place {
	int dir; /* O_PATH */
	char name[NAME_MAX + 1];
};

#define WHERE_NONE ((struct where){.base = -1})
#define PLACE_NONE ((struct place){.dir = -1})
#define _cleanup_where_ __attribute__((cleanup(where_close)))
#define _cleanup_place_ __attribute__((cleanup(place_close)))

/* Checks `at` and opens `beneath`. Strings are kept in *b. field: "at", "from" or "to", for the fault. */
int where_open(struct where *w, const Tenon__Where *at, const char *field, struct bump *b, struct fault *f);
void where_close(struct where *w);

/* The bytes of a request as a string in *b: INVALID_ARGUMENT if they are empty, hold a NUL or are as long as
 * PATH_MAX. NULL with *f. field: a literal. */
const char *where_string(ProtobufCBinaryData bytes, const char *field, struct bump *b, struct fault *f);

/* The file itself. flags: of open(2), without O_CREAT. A descriptor, or -errno with *f. */
int where_resolve(const struct where *w, int flags, struct fault *f);
/* The same for some other path, the prefix of w's for one. -errno only. */
int where_resolve_path(const struct where *w, const char *path, int flags);

/* Where a file is or is to be. A link at the end of the path is not followed; a slash there wants a
 * directory. */
int where_place(const struct where *w, struct place *p, struct fault *f);
/* The same, but links at the end are followed, also to what does not exist. */
int where_follow(const struct where *w, struct place *p, struct bump *b, struct fault *f);
void place_close(struct place *p);

/* The last part of the path, its slashes left out; "/" for the root. In *b. */
const char *where_name(const struct where *w, struct bump *b);
/* Whether the path ends in "/", "/." or is ".": a directory, or what is in it, is meant. */
bool where_wants_dir(const struct where *w);

/* FILE_FAILED, naming the file. below: a path below w's, or NULL. */
int where_fail(const struct where *w, const char *below, const char *stage, int errnum, struct fault *f);

/* Opens anew what an O_PATH descriptor refers to: that very file, whatever has its name by now. -errno. */
int where_reopen(int path_fd, int flags);
/* "/proc/self/fd/N", for calls that take only a path. */
#define WHERE_FD_PATH 32
void where_fd_path(char path[WHERE_FD_PATH], int fd);
