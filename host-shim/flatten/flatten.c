#include "flatten.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "proto/cleanup.h"

struct job {
	const struct manifest *manifest;
	const struct oci_config *config;
	const int *blobs;
	struct tree *tree;
	int out_fd;
	struct archive *out;
	struct archive_entry *entry;
	struct layer layer; /* the one that is being read */
	uint64_t budget;    /* of unpacked bytes */
	uint64_t sizes;     /* of the files' own */
};

/* ---- the first time: what there is ------------------------------------------------------------------ */

static int look_at(struct job *j, struct archive_entry *a, struct err *e)
{
	struct tree_entry t = {
		.name = archive_entry_pathname(a),
		.type = archive_entry_filetype(a),
		.symlink = archive_entry_symlink(a),
		.hardlink = archive_entry_hardlink(a),
	};
	if (!t.name)
		return err_set(e, "layer", EINVAL, "an entry without a name");
	if (t.hardlink)
		t.type = 0;
	else if (t.type == S_IFLNK && !t.symlink)
		t.symlink = "";
	else if (t.type == 0 || t.type == S_IFSOCK)
		return err_set(e, "layer", EINVAL, "%.60s: of a kind that a layer must not have", t.name);
	int64_t size = t.type == S_IFREG ? archive_entry_size(a) : 0;
	if (size < 0 || (uint64_t)size > j->sizes)
		return err_set(e, "layer", E2BIG, "%.60s: the image unpacks to more than is taken", t.name);
	j->sizes -= (uint64_t)size;
	if (archive_entry_uid(a) < 0 || archive_entry_uid(a) > UINT32_MAX || archive_entry_gid(a) < 0 ||
	    archive_entry_gid(a) > UINT32_MAX)
		return err_set(e, "layer", EINVAL, "%.60s: its owner is not a number of 32 bits", t.name);
	return tree_put(j->tree, &t, e);
}

static int look(struct job *j, struct err *e)
{
	struct archive_entry *a;
	int r = tree_begin_layer(j->tree, e);
	while (r == 0 && (r = layer_next(&j->layer, &a, e)) > 0)
		r = look_at(j, a, e);
	return r < 0 ? r : layer_check(&j->layer, e);
}

/* ---- the second time: what is left of it -------------------------------------------------------------- */

static int fail_write(struct job *j, struct err *e)
{
	int errnum = archive_errno(j->out) > 0 ? archive_errno(j->out) : EIO;
	return err_set(e, "tar", errnum, "writing: %.100s", archive_error_string(j->out));
}

static int write_zeroes(struct job *j, int64_t n, struct err *e)
{
	static const char zeroes[65536];
	while (n > 0) {
		size_t piece = n < (int64_t)sizeof zeroes ? (size_t)n : sizeof zeroes;
		if (archive_write_data(j->out, zeroes, piece) != (la_ssize_t)piece)
			return fail_write(j, e);
		n -= (int64_t)piece;
	}
	return 0;
}

static int write_contents(struct job *j, int64_t size, struct err *e)
{
	const void *bytes;
	size_t len;
	int64_t offset, at = 0;
	int r;
	while ((r = layer_data(&j->layer, &bytes, &len, &offset, e)) > 0) {
		if (offset < at || offset > size || (int64_t)len > size - offset)
			return err_set(e, "layer", EBADMSG, "a file's parts overlap, or lie beyond its end");
		r = write_zeroes(j, offset - at, e);
		if (r == 0 && archive_write_data(j->out, bytes, len) != (la_ssize_t)len)
			r = fail_write(j, e);
		if (r < 0)
			return r;
		at = offset + (int64_t)len;
	}
	return r < 0 ? r : write_zeroes(j, size - at, e);
}

static bool is_kept(const char *name)
{
	/* What squashfs can keep. An overlay's own marks are not contents: here they would say of this image
	 * what they said of another file system's layers. */
	return strncmp(name, "trusted.overlay.", 16) != 0 &&
	       (strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
		strncmp(name, "security.", 9) == 0);
}

static void copy_xattrs(struct archive_entry *to, struct archive_entry *from)
{
	const char *name;
	const void *value;
	size_t size;
	archive_entry_xattr_reset(from);
	while (archive_entry_xattr_next(from, &name, &value, &size) == ARCHIVE_OK)
		if (is_kept(name))
			archive_entry_xattr_add_entry(to, name, value, size);
}

/* Whole seconds that squashfs can hold. */
static time_t clamp_time(time_t t)
{
	return t < 0 ? 0 : t > (time_t)UINT32_MAX ? (time_t)UINT32_MAX : t;
}

static int write_header(struct job *j, const struct node *n, struct err *e)
{
	char path[TREE_PATH_MAX + 1];
	tree_path(n, path);
	archive_entry_copy_pathname(j->entry, path);
	return archive_write_header(j->out, j->entry) == ARCHIVE_OK ? 0 : fail_write(j, e);
}

static int write_names(struct job *j, const struct inode *i, const struct node *first, struct err *e)
{
	char path[TREE_PATH_MAX + 1];
	const struct node *n;
	tree_path(first, path);
	TAILQ_FOREACH (n, &i->nodes, same) {
		if (n == first)
			continue;
		archive_entry_clear(j->entry);
		archive_entry_set_filetype(j->entry, AE_IFREG);
		archive_entry_copy_hardlink(j->entry, path);
		int r = write_header(j, n, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_file(struct job *j, const struct inode *i, struct archive_entry *a, struct err *e)
{
	const struct node *first = TAILQ_FIRST(&i->nodes);
	struct archive_entry *out = archive_entry_clear(j->entry);
	int64_t size = i->type == S_IFREG ? archive_entry_size(a) : 0;
	archive_entry_set_filetype(out, i->type);
	archive_entry_set_perm(out, archive_entry_perm(a));
	archive_entry_set_uid(out, archive_entry_uid(a));
	archive_entry_set_gid(out, archive_entry_gid(a));
	archive_entry_set_mtime(out, clamp_time(archive_entry_mtime(a)), 0);
	archive_entry_set_size(out, size);
	if (i->type == S_IFLNK)
		archive_entry_copy_symlink(out, i->target);
	if (i->type == S_IFCHR || i->type == S_IFBLK) {
		archive_entry_set_rdevmajor(out, archive_entry_rdevmajor(a));
		archive_entry_set_rdevminor(out, archive_entry_rdevminor(a));
	}
	copy_xattrs(out, a);
	int r = write_header(j, first, e);
	if (r == 0 && i->type == S_IFREG)
		r = write_contents(j, size, e);
	return r < 0 ? r : write_names(j, i, first, e);
}

static int copy_layer(struct job *j, unsigned layer, struct err *e)
{
	struct archive_entry *a;
	int r;
	for (uint32_t index = 0; (r = layer_next(&j->layer, &a, e)) > 0; index++) {
		const struct inode *i = tree_source(j->tree, layer, index);
		if (!i)
			continue;
		/* The same bytes as the first time, or the files were changed under us. */
		if (archive_entry_filetype(a) != i->type || archive_entry_hardlink(a))
			return err_set(e, "layer", EBADMSG, "it has changed since it was read first");
		r = write_file(j, i, a, e);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : layer_check(&j->layer, e);
}

struct implicit {
	struct job *job;
	struct err *e;
};

static int write_implicit(void *arg, const struct node *n)
{
	struct implicit *i = arg;
	archive_entry_clear(i->job->entry);
	archive_entry_set_filetype(i->job->entry, AE_IFDIR);
	archive_entry_set_perm(i->job->entry, 0755);
	archive_entry_set_mtime(i->job->entry, 0, 0);
	return write_header(i->job, n, i->e);
}

/* ---- both ------------------------------------------------------------------------------------------- */

/* first: looks; else copies. */
static int each_layer(struct job *j, bool first, struct err *e)
{
	for (unsigned i = 0; i < j->manifest->n_layers; i++) {
		struct err why = {0};
		int r = layer_open(&j->layer, j->blobs[i], &j->manifest->layers[i], j->config->diff_ids[i],
				   &j->budget, &why);
		if (r == 0)
			r = first ? look(j, &why) : copy_layer(j, i, &why);
		layer_finish(&j->layer);
		if (r < 0)
			return strcmp(why.stage, "tar") == 0
				       ? (*e = why, r)
				       : err_set(e, why.stage, -r, "layer %u of %zu: %s", i + 1,
						 j->manifest->n_layers, why.msg);
	}
	return 0;
}

/* libarchive's own writer to a descriptor looks what that is, which is one call more to allow. */
static la_ssize_t write_out(struct archive *a, void *arg, const void *bytes, size_t len)
{
	const struct job *j = arg;
	ssize_t n = write(j->out_fd, bytes, len);
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	return n;
}

static int open_output(struct job *j, struct err *e)
{
	if (!j->out || !j->entry)
		return err_sys(e, "tar", ENOMEM, "libarchive");
	/* Names as the bytes they are. */
	if (archive_write_set_format_pax_restricted(j->out) != ARCHIVE_OK ||
	    archive_write_set_options(j->out, "hdrcharset=BINARY") != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(j->out, 65536) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(j->out, 512) != ARCHIVE_OK ||
	    archive_write_open(j->out, j, NULL, write_out, NULL) != ARCHIVE_OK)
		return fail_write(j, e);
	return 0;
}

static int run(struct job *j, const struct flatten_limits *l, struct err *e)
{
	if (j->manifest->n_layers != j->config->n_diff_ids)
		return err_set(e, "config", EBADMSG, "%zu layers in the manifest, and %zu in the config",
			       j->manifest->n_layers, j->config->n_diff_ids);
	j->tree = tree_create(&l->tree);
	if (!j->tree)
		return err_sys(e, "tree", ENOMEM, "tree");
	j->budget = j->sizes = l->bytes;
	int r = each_layer(j, true, e);
	if (r == 0)
		r = open_output(j, e);
	j->budget = l->bytes;
	if (r == 0)
		r = each_layer(j, false, e);
	struct implicit implicit = {j, e};
	if (r == 0)
		r = tree_each_implicit(j->tree, write_implicit, &implicit);
	if (r == 0 && archive_write_close(j->out) != ARCHIVE_OK)
		r = fail_write(j, e);
	return r;
}

int flatten(const struct manifest *m, const struct oci_config *c, const int *blobs,
	    const struct flatten_limits *l, int out, struct err *e)
{
	_cleanup_free_ struct job *j = calloc(1, sizeof *j);
	if (!j)
		return err_sys(e, "flatten", ENOMEM, "flatten");
	*j = (struct job){.manifest = m,
			  .config = c,
			  .blobs = blobs,
			  .out_fd = out,
			  .out = archive_write_new(),
			  .entry = archive_entry_new()};
	int r = run(j, l, e);
	tree_destroy(j->tree);
	archive_entry_free(j->entry);
	if (j->out) {
		/* Else freeing it would write the end of an archive that has none. */
		if (r < 0)
			archive_write_fail(j->out);
		archive_write_free(j->out);
	}
	return r;
}
