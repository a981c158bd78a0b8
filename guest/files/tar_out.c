#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "guest/files/attributes.h"
#include "guest/files/files.h"
#include "guest/files/links.h"
#include "guest/files/walk.h"
#include "guest/files/where.h"
#include "proto/cleanup.h"

#define PIECES_MAX \
	4096 /* of a sparse file that keep their holes; what follows is packed as if there were none */
#define SIZE_LIMIT (INT64_C(1) << 46) /* holes are counted in steps: what is larger would take for ever */
#define BUFFER (4 * FRAME_DATA_FULL)
#define USTAR_NAME_MAX 99        /* with the slash of a folder, 100 */
#define USTAR_NUMBER_MAX 0777777 /* of the seven digits that there are, the library writes six */
#define USTAR_SIZE_MAX INT64_C(077777777777)
#define SPARSE_NAME_MAX 80 /* bytes, if not all are ASCII */
#define NAME_MAX_OUT (PATH_MAX + WALK_PATH_MAX)

struct tar_out {
	struct channel *ch;
	int lost;  /* the connection: -errno of it */
	bool over; /* what the archives still have to say when they are freed is for nobody */
	bool devices;
	struct archive *pax, *ustar; /* into the same stream: each entry in the plainest that can say it */
	struct archive *archive;     /* the present entry's */
	struct archive_entry *entry;
	struct links links;
	const char *prefix; /* "b", or "." */
	dev_t top_dev;
	struct walk walk;
	const char *stage; /* of a failure */
	char name[NAME_MAX_OUT];
	uint8_t buf[BUFFER];
};

static la_ssize_t give(struct archive *a, void *arg, const void *bytes, size_t n)
{
	(void)a;
	struct tar_out *t = arg;
	if (t->over)
		return ARCHIVE_FATAL;
	t->lost = channel_gather(t->ch, bytes, n);
	return t->lost < 0 ? ARCHIVE_FATAL : (la_ssize_t)n;
}

static int fail(struct tar_out *t, const char *stage, int errnum)
{
	t->stage = stage;
	return -errnum;
}

/* Writing failed: the connection did, or there was no memory. */
static int unwritten(struct tar_out *t)
{
	return t->lost < 0 ? t->lost : fail(t, "pack", ENOMEM);
}

/* Mounted file systems that are no files but the kernel's own state. */
static bool is_kernels(int fd)
{
	static const uint32_t magics[] = {
		PROC_SUPER_MAGIC, SYSFS_MAGIC,   CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC,
		DEBUGFS_MAGIC,    TRACEFS_MAGIC, SECURITYFS_MAGIC,   BPF_FS_MAGIC,        PSTOREFS_MAGIC,
		EFIVARFS_MAGIC,   SELINUX_MAGIC, SMACK_MAGIC,        BINFMTFS_MAGIC,      NSFS_MAGIC,
		0x19800202, /* mqueue, which has no name in a header */
		0x62656570, /* configfs */
		0x65735543, /* fusectl */
	};
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
		if ((uint32_t)fs.f_type == magics[i])
			return true;
	return false;
}

/* ---- contents ---- */

/* Where the data of a sparse file are, into the entry. */
static int map_holes(int fd, const struct stat *st, struct archive_entry *e)
{
	off_t at = 0;
	for (int i = 0; at < st->st_size; i++) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO) {
			if (i == 0)
				archive_entry_sparse_add_entry(e, 0, 0); /* nothing but a hole */
			return 0;
		}
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (hole > st->st_size || i == PIECES_MAX)
			hole = st->st_size;
		if (data < hole)
			archive_entry_sparse_add_entry(e, data, hole - data);
		at = hole;
	}
	return 0;
}

static int pack_bytes(struct tar_out *t, int fd, off_t at, off_t end)
{
	while (at < end) {
		size_t want = end - at < BUFFER ? (size_t)(end - at) : BUFFER;
		ssize_t n = pread(fd, t->buf, want, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(t, "read", errno);
		if (n == 0)
			return fail(t, "read", ENODATA); /* the header has promised more: it shrank */
		if (archive_write_data(t->archive, t->buf, (size_t)n) != n)
			return unwritten(t);
		at += n;
	}
	return 0;
}

/* The archive counts the bytes of holes, and takes nothing from the buffer for them. */
static int pass_hole(struct tar_out *t, off_t length)
{
	while (length > 0) {
		size_t n = length < BUFFER ? (size_t)length : BUFFER;
		if (archive_write_data(t->archive, t->buf, n) != (la_ssize_t)n)
			return unwritten(t);
		length -= (off_t)n;
	}
	return 0;
}

static int pack_contents(struct tar_out *t, int fd, const struct stat *st, bool sparse)
{
	la_int64_t at = 0, data, length;
	if (!sparse)
		return pack_bytes(t, fd, 0, st->st_size);
	archive_entry_sparse_reset(t->entry);
	while (archive_entry_sparse_next(t->entry, &data, &length) == ARCHIVE_OK) {
		int r = pass_hole(t, data - at);
		if (r == 0)
			r = pack_bytes(t, fd, data, data + length);
		if (r < 0)
			return r;
		at = data + length;
	}
	return pass_hole(t, st->st_size - at);
}

/* ---- entries ---- */

static void describe(struct tar_out *t, const struct stat *st)
{
	struct archive_entry *e = archive_entry_clear(t->entry);
	archive_entry_copy_pathname(e, t->name);
	archive_entry_set_mode(e, st->st_mode);
	archive_entry_set_uid(e, st->st_uid);
	archive_entry_set_gid(e, st->st_gid);
	archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		archive_entry_set_rdevmajor(e, major(st->st_rdev));
		archive_entry_set_rdevminor(e, minor(st->st_rdev));
	}
}

static bool is_ascii(const char *s, size_t max)
{
	size_t n = 0;
	for (; s[n] != '\0'; n++)
		if (n == max || (unsigned char)s[n] > 0x7e)
			return false;
	return true;
}

/* Whether pax would add nothing to ustar but what it costs to find that out: ten allocations an entry. */
static bool is_plain(struct archive_entry *e)
{
	const char *link = archive_entry_hardlink(e) ? archive_entry_hardlink(e) : archive_entry_symlink(e);
	return is_ascii(archive_entry_pathname(e), USTAR_NAME_MAX) &&
	       (!link || is_ascii(link, USTAR_NAME_MAX)) && archive_entry_uid(e) <= USTAR_NUMBER_MAX &&
	       archive_entry_gid(e) <= USTAR_NUMBER_MAX && archive_entry_rdevminor(e) <= USTAR_NUMBER_MAX &&
	       archive_entry_size(e) <= USTAR_SIZE_MAX && archive_entry_mtime(e) >= 0 &&
	       archive_entry_mtime(e) <= USTAR_SIZE_MAX && archive_entry_xattr_count(e) == 0 &&
	       archive_entry_sparse_count(e) == 0;
}

/* libarchive 3.6 gives a sparse file another name if its own is long and not ASCII: it goes on using the name
 * in the entry after that was set anew. Such a file is packed without holes. */
static bool may_be_sparse(const char *name)
{
	return strlen(name) <= SPARSE_NAME_MAX || is_ascii(name, NAME_MAX_OUT);
}

static int put_header(struct tar_out *t)
{
	if (archive_write_finish_entry(t->archive) != ARCHIVE_OK)
		return unwritten(t);
	t->archive = is_plain(t->entry) ? t->ustar : t->pax;
	/* A warning is about a name that is not the locale's: it is packed as it is, and marked as bytes. */
	return archive_write_header(t->archive, t->entry) < ARCHIVE_WARN ? unwritten(t) : 0;
}

/* What is open as fd: a file or a directory. */
static int pack_open(struct tar_out *t, int fd, const struct stat *st)
{
	describe(t, st);
	if (S_ISREG(st->st_mode) && st->st_size > SIZE_LIMIT)
		return fail(t, "read", EFBIG);
	int r = attributes_get_xattrs(fd, t->entry);
	if (r < 0)
		return fail(t, "getxattr", -r);
	bool sparse =
		S_ISREG(st->st_mode) && st->st_blocks < (st->st_size + 511) / 512 && may_be_sparse(t->name);
	r = sparse ? map_holes(fd, st, t->entry) : 0;
	if (r < 0)
		return fail(t, "lseek", -r);
	sparse = sparse && archive_entry_sparse_count(t->entry) > 0;
	r = put_header(t);
	return r == 0 && S_ISREG(st->st_mode) ? pack_contents(t, fd, st, sparse) : r;
}

static int pack_file(struct tar_out *t, int dir, const char *name, const struct stat *st)
{
	/* Not for ever on a FIFO that has taken its place since. */
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat now;
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return fail(t, "open", errno);
	if (fstat(fd, &now) < 0)
		return fail(t, "stat", errno);
	if ((now.st_mode & S_IFMT) != (st->st_mode & S_IFMT))
		return fail(t, "open", ESTALE);
	return pack_open(t, fd, &now);
}

static int pack_symlink(struct tar_out *t, int dir, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
	if (n < 0)
		return errno == ENOENT ? 0 : fail(t, "readlink", errno);
	target[n] = '\0';
	describe(t, st);
	archive_entry_copy_symlink(t->entry, target);
	return put_header(t);
}

/* Anything but a directory. name: as readlinkat(2) and openat(2) have it. */
static int pack_entry(struct tar_out *t, int dir, const char *name, const struct stat *st)
{
	const char *packed = st->st_nlink > 1 ? links_find(&t->links, st, t->name) : NULL;
	bool is_device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
	if (S_ISSOCK(st->st_mode) || (is_device && !t->devices))
		return 0;
	if (packed) {
		describe(t, st);
		archive_entry_copy_hardlink(t->entry, packed);
		return put_header(t);
	}
	if (S_ISREG(st->st_mode))
		return pack_file(t, dir, name, st);
	if (S_ISLNK(st->st_mode))
		return pack_symlink(t, dir, name, st);
	describe(t, st);
	return put_header(t);
}

static int pack_dir(struct tar_out *t, const struct walk_entry *e)
{
	int r = pack_file(t, e->dir, e->name, e->st);
	if (r < 0 || e->st->st_dev == t->top_dev)
		return r;
	_cleanup_close_ int fd = openat(e->dir, e->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && is_kernels(fd) ? WALK_SKIP : 0;
}

/* As most of a tree is: one call fewer than if it were looked at before. Nothing that is mounted on it. */
static int pack_unseen(struct tar_out *t, const struct walk_entry *e)
{
	struct open_how how = {.flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
			       .resolve = RESOLVE_NO_XDEV};
	_cleanup_close_ int fd = (int)syscall(SYS_openat2, e->dir, e->name, &how, sizeof how);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1)
		return WALK_AGAIN;
	return pack_open(t, fd, &st);
}

static int visit(void *arg, enum walk_when when, const struct walk_entry *e)
{
	struct tar_out *t = arg;
	if (when == WALK_AFTER)
		return WALK_ON;
	size_t prefix = strlen(t->prefix);
	memcpy(t->name, t->prefix, prefix);
	t->name[prefix] = '/';
	strcpy(t->name + prefix + 1, e->path); /* NAME_MAX_OUT has room for both */
	int r = !e->st                    ? pack_unseen(t, e)
		: S_ISDIR(e->st->st_mode) ? pack_dir(t, e)
					  : pack_entry(t, e->dir, e->name, e->st);
	return r < 0 && t->stage ? walk_error(e, t->stage, -r) : r;
}

/* ---- the whole ---- */

static int pack_tree(struct tar_out *t, const struct where *w, int path_fd, const struct stat *st,
		     struct fault *f)
{
	strcpy(t->name, t->prefix);
	t->top_dev = st->st_dev;
	int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return where_fail(w, NULL, "open", errno, f);
	int r = pack_open(t, fd, st);
	if (r < 0) {
		close(fd);
		return t->stage ? where_fail(w, NULL, t->stage, -r, f) : r;
	}
	t->walk = (struct walk){.visit = visit, .arg = t, .depth_max = UINT_MAX, .unseen_files = true};
	r = walk_dir(&t->walk, fd);
	return r < 0 ? walk_fail(&t->walk, w, r, f) : 0;
}

static int pack_single(struct tar_out *t, const struct where *w, int path_fd, const struct stat *st,
		       struct fault *f)
{
	int r;
	strcpy(t->name, t->prefix);
	if (S_ISREG(st->st_mode)) {
		_cleanup_close_ int fd = where_reopen(path_fd, O_RDONLY);
		r = fd < 0 ? fail(t, "open", -fd) : pack_open(t, fd, st);
	} else if (S_ISSOCK(st->st_mode) || (!t->devices && (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)))) {
		r = fail(t, "open", EINVAL); /* alone, nothing would be left */
	} else {
		r = pack_entry(t, path_fd, "", st);
	}
	return r < 0 && t->stage ? where_fail(w, NULL, t->stage, -r, f) : r;
}

static int open_archive(struct tar_out *t, struct archive *a, int (*format)(struct archive *))
{
	/* The channel gathers, which the library would do by copying. */
	if (format(a) != ARCHIVE_OK || archive_write_set_bytes_per_block(a, 0) != ARCHIVE_OK ||
	    archive_write_open(a, t, NULL, give, NULL) != ARCHIVE_OK)
		return unwritten(t);
	return 0;
}

/* Restricted: pax headers only where ustar cannot say it. Fractions of a second alone are not worth what they
 * would add to every small file. */
static int restricted_pax(struct archive *a)
{
	int r = archive_write_set_format_pax_restricted(a);
	return r == ARCHIVE_OK ? archive_write_set_format_option(a, "pax", "xattrheader", "SCHILY") : r;
}

static int pack(struct tar_out *t, const struct where *w, int fd, const struct stat *st, struct fault *f)
{
	int r = open_archive(t, t->pax, restricted_pax);
	if (r == 0)
		r = open_archive(t, t->ustar, archive_write_set_format_ustar);
	if (r == 0)
		r = S_ISDIR(st->st_mode) ? pack_tree(t, w, fd, st, f) : pack_single(t, w, fd, st, f);
	if (r == 0 && archive_write_finish_entry(t->archive) != ARCHIVE_OK)
		r = unwritten(t);
	if (r == 0 && archive_write_close(t->pax) != ARCHIVE_OK)
		r = unwritten(t);
	if (r < 0 && f->code == TENON__CODE__CODE_OK && t->stage)
		return where_fail(w, NULL, t->stage, -r, f);
	if (r == 0)
		r = channel_flush(t->ch);
	return r == 0 ? channel_end(t->ch, t->ch->given) : r;
}

/* A folder that is named by what is in it, "/a/." or "/", is packed as ".". */
static const char *choose_prefix(const struct where *w, struct bump *b)
{
	const char *name = where_name(w, b);
	return name[0] == '/' || strcmp(name, "..") == 0 ? "." : name;
}

int files_tar_out(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		  struct fault *f)
{
	(void)ctx;
	static struct tar_out state; /* too large for the stack */
	struct tar_out *t = &state;
	_cleanup_where_ struct where w = WHERE_NONE;
	int r = where_open(&w, req->tar_out->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = where_resolve(&w, O_PATH | (req->tar_out->follow ? 0 : O_NOFOLLOW), f);
	struct stat st;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return where_fail(&w, NULL, "stat", errno, f);
	t->ch = ch;
	t->lost = 0;
	t->over = false;
	t->stage = NULL;
	t->devices = req->tar_out->devices;
	t->prefix = choose_prefix(&w, &ch->scratch);
	t->archive = t->pax = archive_write_new();
	t->ustar = archive_write_new();
	t->entry = archive_entry_new();
	r = t->pax && t->ustar && t->entry ? links_init(&t->links) : -ENOMEM;
	if (r < 0)
		fault_exhausted(f, NULL, "no memory for the archive");
	else
		r = channel_answer_done(ch);
	if (r == 0)
		r = pack(t, &w, fd, &st, f);
	t->over = true; /* not archive_write_fail, which leaks */
	archive_entry_free(t->entry);
	archive_write_free(t->pax);
	archive_write_free(t->ustar);
	links_finish(&t->links);
	return r;
}
