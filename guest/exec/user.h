/* Users and groups by name, from the /etc/passwd and /etc/group that the caller sees: passwd(5), group(5).
 * Raw system calls, no heap and no libc that writes: it serves a spawned child that still shares the agent's
 * memory as well as a forked worker, which has to be in the box's mount namespace by then. Reading may block
 * for as long as the box likes (a FIFO): never in the agent itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USER_NAME_MAX 256       /* bytes of a name; a longer one is nobody's */
#define USER_HOME_MAX 4096      /* bytes of a home directory, its NUL included; a longer one counts as none */
#define USER_GROUPS_MAX 256     /* that a process is given */
#define USER_ID_MAX 0xfffffffeU /* the one above means "unchanged" to the kernel */
#define USER_FILE_MAX (16 * 1024 * 1024) /* bytes that are read of a file */

struct user {
	uint32_t uid, gid;
	const char *problem; /* if it failed, a literal: "no such user in /etc/passwd" */
	unsigned n_groups;
	uint32_t groups[USER_GROUPS_MAX]; /* all of them, gid too; none for "" */
	char home[USER_HOME_MAX];         /* from passwd, else "/"; "/root" for "" */
};

/* spec: docker's form: "", "name" or "uid", each perhaps with ":name" or ":gid" of a group. Digits are a
 * number, whatever passwd calls its users. "" opens no file. Takes some 12 KiB of stack. Returns 0; -ENOENT
 * for an unknown user or group, -E2BIG for too many groups, -EFBIG for a file that does not end, or why a
 * file could not be read: a missing one is as good as an empty one. */
int user_resolve(const char *spec, struct user *u);

/* Whether it has that form, its numbers in range and its names not too long. Pure. */
bool user_spec_valid(const char *spec, size_t n);

/* ---- the parsing by itself: pure ---- */

enum user_wanted {
	USER_BY_NAME,
	USER_BY_ID,
	USER_BY_MEMBER, /* groups that list `name` */
};

/* Set up with the first four fields, the rest zero. */
struct user_scan {
	bool groups; /* the file is group(5), else passwd(5) */
	enum user_wanted wanted;
	const char *name; /* name_len bytes */
	size_t name_len;
	uint32_t id;

	/* A line that is wanted, until the next call. */
	bool hit;
	char line_name[USER_NAME_MAX]; /* line_name_len bytes, not NUL-terminated */
	size_t line_name_len;
	uint32_t uid, gid; /* of a group: gid alone */
	char home[USER_HOME_MAX];
	size_t home_len;

	/* The line so far. */
	unsigned field;
	size_t n; /* bytes of the field; of the member in a list */
	char text[USER_NAME_MAX];
	bool broken, member;
};

/* The next n bytes of the file. Stops behind a line that is wanted, with hit set. Returns the number it took.
 */
size_t user_scan_feed(struct user_scan *s, const char *bytes, size_t n);

/* The file ends here, perhaps within a line: hit if that one is wanted. */
void user_scan_end(struct user_scan *s);
