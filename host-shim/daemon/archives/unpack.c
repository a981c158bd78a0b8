#include "unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zstd.h>

#include "digest.h"
#include "pieces.h"
#include "proto/cleanup.h"

/* zstd's own default would let an archive ask for 128 MiB. Ours needs 2. */
#define WINDOW_LOG_MAX 23
#define ROOM_LEFT (256ull << 20) /* on the host's disk, at least */
#define TRAILER_MAX (1u << 20)   /* of a tar: zeroes that fill its last block */
#define SQUASHFS_MAGIC "hsqs"
#define SQUASHFS_LEAST 96

struct reader {
	struct unpack *u;
	int fd;
	ZSTD_DStream *zstd;
	uint8_t *in, *out;
	size_t in_cap, out_cap;
	ZSTD_inBuffer input;
	bool between, eof; /* frames of zstd; whether the last one was whole */
	bool full;         /* the last output was: there may be more of it without more input */
};

static bool refuse(struct unpack *u, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The first reason stands. */
static bool refuse(struct unpack *u, enum failure_kind kind, const char *fmt, ...)
{
	if (u->failure.message[0])
		return false;
	va_list ap;
	va_start(ap, fmt);
	u->failure.kind = kind;
	vsnprintf(u->failure.message, sizeof u->failure.message, fmt, ap);
	va_end(ap);
	return false;
}

static bool refuse_err(struct unpack *u, const struct err *e)
{
	bool full = e->errnum == ENOSPC || e->errnum == EDQUOT;
	return refuse(u,
		      full                  ? FAIL_NO_SPACE
		      : e->errnum == EINVAL ? FAIL_INVALID
					    : FAIL_INTERNAL,
		      "%s", e->msg);
}

/* ---- zstd ------------------------------------------------------------------------------------------ */

static la_ssize_t on_read(struct archive *a, void *arg, const void **bytes)
{
	struct reader *r = arg;
	ZSTD_outBuffer out = {r->out, r->out_cap, 0};
	*bytes = r->out;
	while (out.pos == 0) {
		if (atomic_load(r->u->cancelled)) {
			archive_set_error(a, ECANCELED, "nobody waits for it any more");
			return -1;
		}
		bool hungry = r->input.pos == r->input.size && !r->full;
		if (hungry && !r->eof) {
			ssize_t n;
			do
				n = read(r->fd, r->in, r->in_cap);
			while (n < 0 && errno == EINTR);
			r->eof = n <= 0;
			r->input = (ZSTD_inBuffer){r->in, n > 0 ? (size_t)n : 0, 0};
		}
		if (hungry && r->eof && r->input.pos == r->input.size) {
			if (r->between)
				return 0;
			archive_set_error(a, EINVAL, "it ends in its middle");
			return -1;
		}
		size_t left = ZSTD_decompressStream(r->zstd, &out, &r->input);
		if (ZSTD_isError(left)) {
			archive_set_error(a, EINVAL, "zstd: %s", ZSTD_getErrorName(left));
			return -1;
		}
		r->between = left == 0;
		r->full = out.pos == out.size;
	}
	return (la_ssize_t)out.pos;
}

static bool open_zstd(struct reader *r)
{
	r->in_cap = ZSTD_DStreamInSize();
	r->out_cap = ZSTD_DStreamOutSize();
	r->in = malloc(r->in_cap);
	r->out = malloc(r->out_cap);
	r->zstd = ZSTD_createDStream();
	return r->in && r->out && r->zstd &&
	       !ZSTD_isError(ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX));
}

/* ---- tar ------------------------------------------------------------------------------------------- */

static bool tar_failed(struct unpack *u, struct archive *a)
{
	return refuse(u, FAIL_INVALID, "this is no archive of a box, or not a whole one: %s",
		      archive_error_string(a));
}

/* The next member must be this one, a file, of that size; 0: of at most max. */
static bool next_member(struct unpack *u, struct archive *a, const char *name, uint64_t size, uint64_t max,
			uint64_t *out)
{
	struct archive_entry *entry;
	int r = archive_read_next_header(a, &entry);
	if (r == ARCHIVE_EOF)
		return refuse(u, FAIL_INVALID, "the archive has no %s", name);
	if (r != ARCHIVE_OK)
		return tar_failed(u, a);
	const char *found = archive_entry_pathname(entry);
	if (!found || strcmp(found, name) != 0 || archive_entry_filetype(entry) != AE_IFREG ||
	    archive_entry_hardlink(entry) || archive_entry_sparse_count(entry) > 0)
		return refuse(
			u, FAIL_INVALID,
			"the archive has something else where %s should be: this is no archive of a box",
			name);
	*out = archive_entry_size_is_set(entry) && archive_entry_size(entry) > 0
		       ? (uint64_t)archive_entry_size(entry)
		       : 0;
	if (!*out || (size && *out != size) || (!size && *out > max))
		return refuse(u, FAIL_INVALID, "%s: its size is not the one it should be", name);
	return true;
}

/* The whole member through take, and its digest. */
static bool read_member(struct unpack *u, struct archive *a, const char *name, const struct member *m,
			int (*take)(void *arg, const uint8_t *bytes, size_t n, struct err *e), void *arg)
{
	uint64_t size;
	struct digest d;
	struct err e = {0};
	char sha256[65];
	if (!next_member(u, a, name, m->size, 0, &size))
		return false;
	digest_init(&d);
	for (;;) {
		const void *bytes;
		size_t n;
		la_int64_t at;
		int r = archive_read_data_block(a, &bytes, &n, &at);
		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return tar_failed(u, a);
		digest_add(&d, bytes, n);
		if (d.size > size || take(arg, bytes, n, &e) < 0)
			return e.errnum ? refuse_err(u, &e)
					: refuse(u, FAIL_INVALID, "%s: its size is wrong", name);
	}
	digest_end(&d, sha256);
	if (d.size != size || strcmp(sha256, m->sha256) != 0)
		return refuse(u, FAIL_INVALID, "%s: its SHA-256 is not the one in manifest.json", name);
	return true;
}

/* ---- the members ----------------------------------------------------------------------------------- */

static bool read_manifest(struct unpack *u, struct archive *a)
{
	uint64_t size;
	if (!next_member(u, a, "manifest.json", 0, ARCHIVE_MANIFEST_MAX, &size))
		return false;
	_cleanup_free_ char *text = malloc(size);
	if (!text)
		return refuse(u, FAIL_EXHAUSTED, "no memory");
	if (archive_read_data(a, text, size) != (la_ssize_t)size)
		return tar_failed(u, a);
	struct failure f;
	return archive_manifest_read(&u->manifest, text, size, &f) || refuse(u, f.kind, "%s", f.message);
}

/* Better now than when the disk of the host is full, which others have to live with. */
static bool has_room(struct unpack *u)
{
	struct statvfs fs;
	uint64_t need = u->manifest.disk.size + u->manifest.image.size + ROOM_LEFT;
	if (fstatvfs(u->folder, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < need)
		return refuse(u, FAIL_NO_SPACE, "the host has no room for a box of %llu bytes",
			      (unsigned long long)(need - ROOM_LEFT));
	return true;
}

static int take_pieces(void *arg, const uint8_t *bytes, size_t n, struct err *e)
{
	return pieces_take(arg, bytes, n, e);
}

static bool read_disk(struct unpack *u, struct archive *a)
{
	uint64_t size = (uint64_t)u->manifest.spec.disk_size_gb << 30;
	_cleanup_close_ int fd =
		openat(u->folder, UNPACK_DISK, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct pieces p = {.fd = fd, .size = size};
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return refuse(u, errno == EFBIG ? FAIL_NO_SPACE : FAIL_INTERNAL,
			      "the disk cannot be made: %s", strerror(errno));
	if (!read_member(u, a, ARCHIVE_DISK, &u->manifest.disk, take_pieces, &p))
		return false;
	return p.over || refuse(u, FAIL_INVALID, "disk.extents has no end");
}

struct image_file {
	int fd;
	uint64_t at;
};

static int take_image(void *arg, const uint8_t *bytes, size_t n, struct err *e)
{
	struct image_file *i = arg;
	if (i->at == 0 && (n < 4 || memcmp(bytes, SQUASHFS_MAGIC, 4) != 0))
		return err_set(e, "archive", EINVAL, "image.squashfs is no squashfs");
	while (n > 0) {
		ssize_t done = write(i->fd, bytes, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(e, "archive", errno, "writing the image");
		bytes += done;
		n -= (size_t)done;
		i->at += (uint64_t)done;
	}
	return 0;
}

static bool read_image(struct unpack *u, struct archive *a)
{
	_cleanup_close_ int fd =
		openat(u->folder, ARCHIVE_IMAGE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct image_file i = {.fd = fd};
	if (fd < 0)
		return refuse(u, FAIL_INTERNAL, "the image cannot be made: %s", strerror(errno));
	if (u->manifest.image.size < SQUASHFS_LEAST)
		return refuse(u, FAIL_INVALID, "image.squashfs is no squashfs");
	if (!read_member(u, a, ARCHIVE_IMAGE, &u->manifest.image, take_image, &i))
		return false;
	return fsync(fd) == 0 || refuse(u, FAIL_INTERNAL, "the image cannot be synced: %s", strerror(errno));
}

/* Nothing may follow, and what was cut off is not taken for a whole. */
static bool read_end(struct unpack *u, struct archive *a, struct reader *r)
{
	struct archive_entry *entry;
	int last = archive_read_next_header(a, &entry);
	if (last == ARCHIVE_OK)
		return refuse(u, FAIL_INVALID, "the archive has more than it should");
	if (last != ARCHIVE_EOF)
		return tar_failed(u, a);
	const void *rest;
	la_ssize_t n;
	size_t total = 0;
	while ((n = on_read(a, r, &rest)) > 0)
		if ((total += (size_t)n) > TRAILER_MAX)
			return refuse(u, FAIL_INVALID, "the archive goes on after its end");
	return n == 0 || tar_failed(u, a);
}

static bool read_all(struct unpack *u, struct archive *a, struct reader *r)
{
	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open(a, r, NULL, on_read, NULL) != ARCHIVE_OK)
		return tar_failed(u, a);
	return read_manifest(u, a) && has_room(u) && read_disk(u, a) && read_image(u, a) && read_end(u, a, r);
}

bool unpack_read(struct unpack *u, int fd)
{
	struct reader r = {.u = u, .fd = fd, .between = false};
	struct archive *a = archive_read_new();
	bool ok = a && open_zstd(&r) ? read_all(u, a, &r) : refuse(u, FAIL_EXHAUSTED, "no memory");
	archive_read_free(a);
	ZSTD_freeDStream(r.zstd);
	free(r.in);
	free(r.out);
	return ok;
}
