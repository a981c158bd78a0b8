#include "guest/files/info.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "proto/clock.h"

int info_read_target(struct info *info, int dir, const char *name)
{
	info->target_len = 0;
	if (!S_ISLNK(info->st.st_mode))
		return 0;
	ssize_t n = readlinkat(dir, name, info->target, sizeof info->target);
	if (n < 0)
		return -errno;
	info->target_len = (size_t)n;
	return 0;
}

int info_of(struct info *info, int fd, const char *name)
{
	info->name = name;
	return fstat(fd, &info->st) < 0 ? -errno : info_read_target(info, fd, "");
}

static int64_t nanoseconds(const struct timespec *t)
{
	return (int64_t)t->tv_sec * (int64_t)NSEC_PER_SEC + t->tv_nsec;
}

void info_pack(Tenon__FileInfo *packed, const struct info *info)
{
	const struct stat *st = &info->st;
	*packed = (Tenon__FileInfo)TENON__FILE_INFO__INIT;
	packed->name = (ProtobufCBinaryData){strlen(info->name), (uint8_t *)info->name};
	packed->mode = st->st_mode;
	packed->uid = st->st_uid;
	packed->gid = st->st_gid;
	packed->size = (uint64_t)st->st_size;
	packed->blocks = (uint64_t)st->st_blocks;
	packed->inode = st->st_ino;
	packed->device = st->st_dev;
	packed->links = st->st_nlink;
	packed->rdev = st->st_rdev;
	packed->mtime_ns = nanoseconds(&st->st_mtim);
	packed->atime_ns = nanoseconds(&st->st_atim);
	packed->ctime_ns = nanoseconds(&st->st_ctim);
	packed->link_target = (ProtobufCBinaryData){info->target_len, (uint8_t *)info->target};
}

int info_answer(struct channel *ch, const struct info *info)
{
	Tenon__FileInfo packed;
	info_pack(&packed, info);
	Tenon__BulkResponse answer = TENON__BULK_RESPONSE__INIT;
	answer.result_case = TENON__BULK_RESPONSE__RESULT_FILE;
	answer.file = &packed;
	return channel_answer(ch, &answer);
}
