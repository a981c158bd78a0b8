#include "pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "digest.h"
#include "manifest.h"
#include "pieces.h"
#include "proto/cleanup.h"

/* Takes the bytes of a member, the first time and the second. */
struct taker {
	const struct pack *pack;
	int (*take)(void *arg, const uint8_t *bytes, size_t n, struct err *e);
	void *arg;
	uint8_t *buf; /* PIECE_MAX bytes */
};

static int read_at(int fd, uint8_t *buf, size_t n, uint64_t at, struct err *e)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = pread(fd, buf + got, n - got, (off_t)(at + got));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return err_sys(e, "archive", r < 0 ? errno : EIO, "reading what is to be exported");
		got += (size_t)r;
	}
	return 0;
}

static int pass(const struct taker *t, int fd, uint64_t at, size_t n, struct err *e)
{
	if (atomic_load(t->pack->cancelled))
		return err_set(e, "archive", ECANCELED, "nobody waits for it any more");
	int r = read_at(fd, t->buf, n, at, e);
	return r < 0 ? r : t->take(t->arg, t->buf, n, e);
}

static int pass_disk(const struct taker *t, uint64_t size, struct err *e)
{
	uint8_t head[PIECE_HEAD];
	uint64_t at = 0, len;
	int r;
	while ((r = piece_find(t->pack->disk, size, &at, &len, e)) > 0) {
		piece_put_head(head, at, len);
		r = t->take(t->arg, head, sizeof head, e);
		if (r == 0)
			r = pass(t, t->pack->disk, at, (size_t)len, e);
		if (r < 0)
			return r;
		at += len;
	}
	piece_put_head(head, size, 0);
	return r < 0 ? r : t->take(t->arg, head, sizeof head, e);
}

static int pass_image(const struct taker *t, uint64_t size, struct err *e)
{
	int r = 0;
	for (uint64_t at = 0; at < size && r == 0; at += PIECE_MAX)
		r = pass(t, t->pack->image, at, size - at < PIECE_MAX ? (size_t)(size - at) : PIECE_MAX, e);
	return r;
}

/* ---- first: sizes and digests ---- */

static int measure(void *arg, const uint8_t *bytes, size_t n, struct err *e)
{
	struct digest *d = arg;
	(void)e;
	digest_add(d, bytes, n);
	return 0;
}

static int measure_member(struct taker *t, int (*pass)(const struct taker *t, uint64_t size, struct err *e),
			  uint64_t size, struct member *out, struct err *e)
{
	struct digest d;
	digest_init(&d);
	t->take = measure;
	t->arg = &d;
	int r = pass(t, size, e);
	out->size = d.size;
	digest_end(&d, out->sha256);
	return r;
}

/* ---- second: the archive ---- */

static la_ssize_t on_write(struct archive *a, void *arg, const void *bytes, size_t n)
{
	ssize_t done;
	do
		done = write(*(const int *)arg, bytes, n);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		archive_set_error(a, errno, "write: %s", strerror(errno));
	return done;
}

static int archive_failed(struct archive *a, struct err *e)
{
	int errnum = archive_errno(a);
	return err_set(e, "archive", errnum > 0 ? errnum : EIO, "%s", archive_error_string(a));
}

static int append(void *arg, const uint8_t *bytes, size_t n, struct err *e)
{
	struct archive *a = arg;
	return archive_write_data(a, bytes, n) == (la_ssize_t)n ? 0 : archive_failed(a, e);
}

static int begin_member(struct archive *a, const char *name, uint64_t size, struct err *e)
{
	struct archive_entry *entry = archive_entry_new();
	if (!entry)
		return err_sys(e, "archive", ENOMEM, "%s", name);
	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_size(entry, (int64_t)size);
	archive_entry_set_mtime(entry, 0, 0);
	int r = archive_write_header(a, entry) == ARCHIVE_OK ? 0 : archive_failed(a, e);
	archive_entry_free(entry);
	return r;
}

static int write_members(struct taker *t, struct archive *a, const char *text, const struct member *disk,
			 uint64_t disk_size, const struct member *image, struct err *e)
{
	t->take = append;
	t->arg = a;
	int r = begin_member(a, "manifest.json", strlen(text), e);
	if (r == 0)
		r = append(a, (const uint8_t *)text, strlen(text), e);
	if (r == 0)
		r = begin_member(a, ARCHIVE_DISK, disk->size, e);
	if (r == 0)
		r = pass_disk(t, disk_size, e);
	if (r == 0)
		r = begin_member(a, ARCHIVE_IMAGE, image->size, e);
	if (r == 0)
		r = pass_image(t, image->size, e);
	return r;
}

int pack_write(const struct pack *p, int fd, struct err *e)
{
	struct member disk = {0}, image = {0};
	struct stat disk_st, image_st;
	_cleanup_free_ uint8_t *buf = malloc(PIECE_MAX);
	struct taker t = {.pack = p, .buf = buf};
	if (!buf || fstat(p->disk, &disk_st) < 0 || fstat(p->image, &image_st) < 0)
		return err_sys(e, "archive", buf ? errno : ENOMEM, "what is to be exported");
	int r = measure_member(&t, pass_disk, (uint64_t)disk_st.st_size, &disk, e);
	if (r == 0)
		r = measure_member(&t, pass_image, (uint64_t)image_st.st_size, &image, e);
	_cleanup_free_ char *text = r == 0 ? archive_manifest_text(p->manifest, &disk, &image) : NULL;
	struct archive *a = text ? archive_write_new() : NULL;
	if (!a)
		return r < 0 ? r : err_sys(e, "archive", ENOMEM, "manifest.json");
	/* pax for sizes beyond 8 GiB alone, the last block not filled up. */
	if (archive_write_set_format_pax_restricted(a) != ARCHIVE_OK ||
	    archive_write_add_filter_zstd(a) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
	    archive_write_open(a, &fd, NULL, on_write, NULL) != ARCHIVE_OK)
		r = archive_failed(a, e);
	if (r == 0)
		r = write_members(&t, a, text, &disk, (uint64_t)disk_st.st_size, &image, e);
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = archive_failed(a, e);
	archive_write_free(a);
	return r;
}
