#include "layer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Names come as bytes; libarchive warns that they are not what the locale has, and keeps them as they are. */
#define NAME_NOT_CONVERTED EILSEQ

static la_ssize_t take_packed(struct archive *a, void *arg, const void **bytes)
{
	struct layer *l = arg;
	ssize_t n = pread(l->fd, l->in, sizeof l->in, (off_t)l->packed);
	if (n < 0)
		archive_set_error(a, errno, "reading the blob");
	if (n <= 0)
		return n;
	sha256_update(&l->packed_sum, (size_t)n, l->in);
	l->packed += (uint64_t)n;
	*bytes = l->in;
	return n;
}

static int fail_archive(struct layer *l, struct archive *a, struct err *e)
{
	const char *why = archive_error_string(a);
	if (l->failure.errnum) {
		*e = l->failure;
		return -e->errnum;
	}
	return err_set(e, "layer", EBADMSG, "no tar archive, or a damaged one: %.100s",
		       why ? why : "it ends too early");
}

static ssize_t unpack(struct layer *l)
{
	la_ssize_t n = archive_read_data(l->raw, l->out, sizeof l->out);
	if (n < 0)
		return fail_archive(l, l->raw, &l->failure);
	if ((uint64_t)n > *l->budget)
		return err_set(&l->failure, "layer", E2BIG, "the image unpacks to more than is taken");
	*l->budget -= (uint64_t)n;
	sha256_update(&l->unpacked_sum, (size_t)n, l->out);
	l->header += (uint64_t)n;
	if (l->in_header && l->header > LAYER_HEADER_MAX)
		return err_set(&l->failure, "layer", E2BIG, "an entry's headers have more than %u bytes",
			       LAYER_HEADER_MAX);
	return n;
}

static la_ssize_t take_unpacked(struct archive *a, void *arg, const void **bytes)
{
	struct layer *l = arg;
	ssize_t n = unpack(l);
	*bytes = l->out;
	if (n >= 0)
		return n;
	archive_set_error(a, l->failure.errnum, "%s", l->failure.msg);
	return ARCHIVE_FATAL;
}

int layer_open(struct layer *l, int fd, const struct manifest_blob *blob, const char *diff_id,
	       uint64_t *budget, struct err *e)
{
	struct archive_entry *whole;
	*l = (struct layer){.fd = fd, .blob = blob, .diff_id = diff_id, .budget = budget};
	sha256_init(&l->packed_sum);
	sha256_init(&l->unpacked_sum);
	l->raw = archive_read_new();
	l->tar = archive_read_new();
	if (!l->raw || !l->tar)
		return err_sys(e, "layer", ENOMEM, "libarchive");
	archive_read_support_filter_gzip(l->raw);
	archive_read_support_filter_zstd(l->raw);
	archive_read_support_format_raw(l->raw);
	archive_read_support_format_tar(l->tar);
	archive_read_support_format_empty(l->tar);
	if (archive_read_open(l->raw, l, NULL, take_packed, NULL) != ARCHIVE_OK ||
	    archive_read_next_header(l->raw, &whole) != ARCHIVE_OK)
		return fail_archive(l, l->raw, e);
	if (archive_read_open(l->tar, l, NULL, take_unpacked, NULL) != ARCHIVE_OK)
		return fail_archive(l, l->tar, e);
	return 0;
}

int layer_next(struct layer *l, struct archive_entry **entry, struct err *e)
{
	if (l->in_entry && archive_read_data_skip(l->tar) < ARCHIVE_WARN)
		return fail_archive(l, l->tar, e);
	l->in_header = true;
	l->header = 0;
	int r = archive_read_next_header(l->tar, entry);
	l->in_header = false;
	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && archive_errno(l->tar) == NAME_NOT_CONVERTED))
		return fail_archive(l, l->tar, e);
	l->in_entry = true;
	return 1;
}

int layer_data(struct layer *l, const void **bytes, size_t *len, int64_t *offset, struct err *e)
{
	int r = archive_read_data_block(l->tar, bytes, len, offset);
	if (r == ARCHIVE_EOF)
		return 0;
	return r == ARCHIVE_OK ? 1 : fail_archive(l, l->tar, e);
}

int layer_check(struct layer *l, struct err *e)
{
	char digest[DIGEST_SIZE];
	ssize_t n;
	while ((n = unpack(l)) > 0)
		;
	if (n < 0) {
		*e = l->failure;
		return (int)n;
	}
	/* What a decompressor did not want any more is of the blob, too. */
	const void *rest;
	while ((n = take_packed(l->raw, l, &rest)) > 0)
		;
	if (n < 0)
		return fail_archive(l, l->raw, e);
	if (l->packed != l->blob->size)
		return err_set(e, "layer", EBADMSG, "the blob has %llu bytes, and %llu in the manifest",
			       (unsigned long long)l->packed, (unsigned long long)l->blob->size);
	digest_finish(&l->packed_sum, digest);
	if (strcmp(digest, l->blob->digest) != 0)
		return err_set(e, "layer", EBADMSG, "the blob is %.19s…, and %.19s… in the manifest", digest,
			       l->blob->digest);
	digest_finish(&l->unpacked_sum, digest);
	if (strcmp(digest, l->diff_id) != 0)
		return err_set(e, "layer", EBADMSG, "it unpacks to %.19s…, and %.19s… in the config", digest,
			       l->diff_id);
	return 0;
}

void layer_finish(struct layer *l)
{
	archive_read_free(l->tar);
	archive_read_free(l->raw);
	l->tar = l->raw = NULL;
}
