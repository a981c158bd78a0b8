#include "guest/files/attributes.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

void attributes_of(struct attributes *a, struct archive_entry *e, bool keep_owner, const struct owner *owner)
{
	mode_t mode = archive_entry_mode(e) & 07777;
	a->mode = keep_owner ? mode : mode & (mode_t) ~(S_ISUID | S_ISGID);
	a->owner = keep_owner ? (struct owner){(uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e)}
			      : *owner;
	a->mtime = (struct timespec){archive_entry_mtime(e), archive_entry_mtime_nsec(e)};
}

static int put_xattrs(int fd, struct archive_entry *e, bool all)
{
	const char *name;
	const void *value;
	size_t n;
	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &n) == ARCHIVE_OK) {
		if (!all && strncmp(name, "user.", 5) != 0)
			continue;
		if (fsetxattr(fd, name, value, n, 0) < 0 && errno != EOPNOTSUPP && errno != EPERM)
			return -errno;
	}
	return 0;
}

static void times_of(struct timespec times[2], const struct attributes *a)
{
	times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	times[1] = a->mtime;
}

int attributes_put(int fd, const struct attributes *a, struct archive_entry *xattrs, bool all,
		   const char **stage)
{
	struct timespec times[2];
	times_of(times, a);
	*stage = "chown";
	if (fchown(fd, a->owner.uid, a->owner.gid) < 0)
		return -errno;
	*stage = "chmod";
	if (fchmod(fd, a->mode) < 0)
		return -errno;
	*stage = "setxattr";
	int r = xattrs ? put_xattrs(fd, xattrs, all) : 0;
	if (r < 0)
		return r;
	*stage = "utimens";
	return futimens(fd, times) < 0 ? -errno : 0;
}

int attributes_put_at(int dir, const char *name, const struct attributes *a, const char **stage)
{
	struct timespec times[2];
	times_of(times, a);
	*stage = "chown";
	if (fchownat(dir, name, a->owner.uid, a->owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*stage = "utimens";
	return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int attributes_get_xattrs(int fd, struct archive_entry *e)
{
	/* The kernel's own limits: XATTR_LIST_MAX, XATTR_SIZE_MAX. */
	static char names[65536], value[65536];
	ssize_t n = flistxattr(fd, names, sizeof names);
	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t len = fgetxattr(fd, name, value, sizeof value);
		if (len >= 0)
			archive_entry_xattr_add_entry(e, name, value, (size_t)len);
		else if (errno != ENODATA && errno != EOPNOTSUPP)
			return -errno;
	}
	return 0;
}
