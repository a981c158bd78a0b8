#include "guest/files/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define SMALL_FILE 65536

int unpack_fail(const struct unpack *u, const char *stage, int errnum, struct fault *f)
{
	return where_fail(u->target, u->name[0] ? u->name : NULL, stage, errnum, f);
}

/* "./a//b/" is "a/b". */
static int clean(const char *raw, char out[PATH_MAX])
{
	size_t n = 0;
	unsigned depth = 0;
	if (!raw || !*raw || *raw == '/')
		return -EINVAL;
	for (const char *p = raw; *p;) {
		size_t len = strcspn(p, "/");
		bool nothing = len == 0 || (len == 1 && p[0] == '.');
		if (len == 2 && p[0] == '.' && p[1] == '.')
			return -EINVAL;
		if (!nothing) {
			if (n + len + 2 > PATH_MAX || ++depth > DIRS_DEPTH_MAX)
				return -ENAMETOOLONG;
			if (n > 0)
				out[n++] = '/';
			memcpy(out + n, p, len);
			n += len;
		}
		p += len + (p[len] == '/');
	}
	out[n] = '\0';
	return 0;
}

int unpack_name(struct unpack *u, struct archive_entry *e, struct fault *f)
{
	const char *raw = archive_entry_pathname(e);
	int r = clean(raw, u->name);
	return r < 0 ? where_fail(u->target, raw ? raw : "", "entry", -r, f) : 0;
}

bool unpack_is_file(struct archive_entry *e)
{
	const char *raw = archive_entry_pathname(e);
	size_t n = raw ? strlen(raw) : 0;
	return archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e) &&
	       !(n > 0 && raw[n - 1] == '/'); /* which some packers call a directory by */
}

/* The end of the parent's part of the name, and where the last part begins. */
static size_t parent_of(const char *name, const char **last)
{
	const char *slash = strrchr(name, '/');
	*last = slash ? slash + 1 : name;
	return slash ? (size_t)(slash - name) : 0;
}

static int open_parent(struct unpack *u, const char **last, struct fault *f)
{
	int dir = dirs_enter(&u->dirs, u->name, parent_of(u->name, last));
	return dir < 0 ? unpack_fail(u, "open", -dir, f) : dir;
}

/* The directory that the entry goes into, if nothing there forbids it. */
static int enter_parent(struct unpack *u, const char **last, struct fault *f)
{
	struct stat st;
	int dir = open_parent(u, last, f);
	if (dir < 0)
		return dir;
	if (fstatat(dir, *last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? dir : unpack_fail(u, "open", errno, f);
	if (u->no_clobber)
		return unpack_fail(u, "open", EEXIST, f);
	return S_ISDIR(st.st_mode) ? unpack_fail(u, "open", EISDIR, f) : dir;
}

static int write_at(int fd, const uint8_t *bytes, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t done = pwrite(fd, bytes, n, at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		bytes += done;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

static int write_contents(struct unpack *u, struct archive_entry *e, int fd, struct fault *f)
{
	la_int64_t size = archive_entry_size(e), at, end = 0;
	const void *bytes;
	size_t n;
	int r;
	while ((r = archive_read_data_block(u->archive, &bytes, &n, &at)) == ARCHIVE_OK) {
		if (at < 0 || at > size || (la_int64_t)n > size - at)
			return unpack_fail(u, "entry", EINVAL, f); /* a map of holes that lies */
		r = write_at(fd, bytes, n, at);
		if (r < 0)
			return unpack_fail(u, "write", -r, f);
		end = at + (la_int64_t)n;
	}
	if (r != ARCHIVE_EOF)
		return -EPROTO;
	/* A hole at the end is nothing that is written. */
	return end != size && ftruncate(fd, size) < 0 ? unpack_fail(u, "write", errno, f) : 0;
}

/* Closes fd. */
static int fill(struct unpack *u, struct archive_entry *e, int fd, struct fault *f)
{
	_cleanup_close_ int file = fd;
	struct attributes a;
	const char *stage;
	int r = write_contents(u, e, file, f);
	if (r < 0)
		return r;
	attributes_of(&a, e, u->keep_owner, &u->owner);
	r = attributes_put(file, &a, e, u->keep_owner, &stage);
	if (r < 0)
		return unpack_fail(u, stage, -r, f);
	/* Some file systems tell only here that they could not write. */
	return close(steal_fd(&file)) < 0 ? unpack_fail(u, "close", errno, f) : 0;
}

int unpack_contents(struct unpack *u, struct archive_entry *e, struct beside *b, int dir, struct fault *f)
{
	int fd = beside_file(b, dir);
	return fd < 0 ? unpack_fail(u, "open", -fd, f) : fill(u, e, fd, f);
}

int unpack_install(struct unpack *u, struct beside *b, struct fault *f)
{
	const char *last;
	int dir = enter_parent(u, &last, f);
	if (dir < 0)
		return dir;
	int r = beside_install(b, dir, last, u->no_clobber);
	return r < 0 ? unpack_fail(u, "rename", -r, f) : 0;
}

static int replace_file(struct unpack *u, struct archive_entry *e, struct fault *f)
{
	const char *last;
	_cleanup_beside_ struct beside b = BESIDE_NONE;
	int dir = enter_parent(u, &last, f);
	if (dir < 0)
		return dir;
	int r = unpack_contents(u, e, &b, dir, f);
	if (r < 0)
		return r;
	r = beside_install(&b, dir, last, u->no_clobber);
	return r < 0 ? unpack_fail(u, "rename", -r, f) : 0;
}

/* A small file where nothing was is made in its place: there is no old one to keep, and renaming ten thousand
 * takes a third of all their time. */
static int unpack_file(struct unpack *u, struct archive_entry *e, struct fault *f)
{
	const char *last;
	if (archive_entry_size(e) > SMALL_FILE)
		return replace_file(u, e, f);
	int dir = open_parent(u, &last, f);
	if (dir < 0)
		return dir;
	int fd = openat(dir, last, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EEXIST ? replace_file(u, e, f) : unpack_fail(u, "open", errno, f);
	int r = fill(u, e, fd, f);
	if (r < 0)
		unlinkat(dir, last, 0);
	return r;
}

static int unpack_dir(struct unpack *u, struct archive_entry *e, bool fresh, struct fault *f)
{
	struct attributes a;
	size_t n = strlen(u->name);
	attributes_of(&a, e, u->keep_owner, &u->owner);
	int fd = n > 0 ? dirs_make(&u->dirs, u->name, n, &fresh) : dirs_enter(&u->dirs, u->name, 0);
	if (fd < 0)
		return unpack_fail(u, "mkdir", -fd, f);
	/* One that was there already stays as it is, unless all is to be as the archive has it: /tmp, for
	 * one. */
	if (!fresh && !(u->keep_owner && n > 0))
		return 0;
	const char *stage;
	int r = attributes_put(fd, &a, e, u->keep_owner, &stage);
	if (r < 0)
		return unpack_fail(u, stage, -r, f);
	dirs_finish_with(&u->dirs, &a);
	return 0;
}

/* A hard link to what the archive has brought, or to what was in the folder before. */
static int link_beside(struct unpack *u, const char *raw, struct beside *b, int dir, struct fault *f)
{
	char target[PATH_MAX];
	const char *last;
	int r = clean(raw, target);
	if (r == 0 && target[0] == '\0')
		r = -EINVAL;
	if (r < 0)
		return unpack_fail(u, "link", -r, f);
	size_t n = parent_of(target, &last);
	if (n > 0)
		target[n] = '\0'; /* the slash before `last` */
	_cleanup_close_ int from =
		where_resolve_path(&u->dirs.top, n > 0 ? target : ".", O_PATH | O_DIRECTORY);
	if (from < 0)
		return unpack_fail(u, "link", -from, f);
	r = beside_link(b, dir, from, last);
	return r < 0 ? unpack_fail(u, "link", -r, f) : 0;
}

static int make_other(struct unpack *u, struct archive_entry *e, struct beside *b, int dir, struct fault *f)
{
	mode_t type = archive_entry_filetype(e), mode = archive_entry_perm(e) & 01777;
	const char *target = archive_entry_symlink(e);
	int r;
	switch (type) {
	case AE_IFLNK:
		r = target && *target ? beside_symlink(b, dir, target) : -EINVAL;
		return r < 0 ? unpack_fail(u, "symlink", -r, f) : 0;
	case AE_IFIFO:
		r = beside_node(b, dir, S_IFIFO | mode, 0);
		break;
	case AE_IFCHR:
	case AE_IFBLK:
		r = -EPERM;
		if (u->devices)
			r = beside_node(b, dir, type | mode,
					makedev((unsigned)archive_entry_rdevmajor(e),
						(unsigned)archive_entry_rdevminor(e)));
		break;
	default:
		return unpack_fail(u, "entry", EINVAL, f);
	}
	return r < 0 ? unpack_fail(u, "mknod", -r, f) : 0;
}

static int unpack_other(struct unpack *u, struct archive_entry *e, struct fault *f)
{
	const char *last, *link = archive_entry_hardlink(e), *stage;
	struct attributes a;
	_cleanup_beside_ struct beside b = BESIDE_NONE;
	int dir = enter_parent(u, &last, f);
	if (dir < 0)
		return dir;
	attributes_of(&a, e, u->keep_owner, &u->owner);
	int r = link ? link_beside(u, link, &b, dir, f) : make_other(u, e, &b, dir, f);
	if (r < 0)
		return r;
	r = link ? 0 : attributes_put_at(dir, b.name, &a, &stage);
	if (r < 0)
		return unpack_fail(u, stage, -r, f);
	r = beside_install(&b, dir, last, u->no_clobber);
	return r < 0 ? unpack_fail(u, "rename", -r, f) : 0;
}

int unpack_entry(struct unpack *u, struct archive_entry *e, bool fresh, struct fault *f)
{
	bool is_file = unpack_is_file(e);
	if (archive_entry_filetype(e) == AE_IFDIR ||
	    (archive_entry_filetype(e) == AE_IFREG && !is_file && !archive_entry_hardlink(e)))
		return unpack_dir(u, e, fresh, f);
	if (u->name[0] == '\0')
		return unpack_fail(u, "entry", EINVAL, f);
	return is_file ? unpack_file(u, e, f) : unpack_other(u, e, f);
}
