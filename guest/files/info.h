/* What is told of a file (message FileInfo). */
#pragma once

#include <limits.h>
#include <sys/stat.h>

#include "guest/bulk/channel.h"

struct info {
	struct stat st;
	const char *name; /* not owned */
	char target[PATH_MAX];
	size_t target_len;
};

/* Of what fd, which may be an O_PATH one, refers to; of a link also where it points. -errno. */
int info_of(struct info *info, int fd, const char *name);
/* Fills the target if info->st is a link's; name as readlinkat(2) has it. -errno. */
int info_read_target(struct info *info, int dir, const char *name);
/* Points into *info. */
void info_pack(Tenon__FileInfo *packed, const struct info *info);
int info_answer(struct channel *ch, const struct info *info);
