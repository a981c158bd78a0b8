#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/files/files.h"
#include "guest/files/parents.h"
#include "guest/files/unpack.h"
#include "proto/cleanup.h"

/* Names come as bytes; libarchive warns that they are not what the locale has, and keeps them as they are. */
#define NAME_NOT_CONVERTED EILSEQ

/* What may come before an entry's contents. libarchive keeps all of it, a map of holes at twelve times its
 * size. */
#define HEADER_MAX (2 * 1024 * 1024)

struct tar_in {
	struct channel *ch;
	int lost;        /* the connection: -errno of it */
	bool in_header;  /* the archive is being read for the next entry */
	uint64_t header; /* where that began, in bytes taken */
	struct where where;
	struct unpack unpack;
	bool unpacking; /* the folder is open */
	bool fresh;     /* and was made by us */
	bool holding;   /* the first file, whose place depends on whether there is a second */
	struct place place;
	struct beside first;
	char first_name[PATH_MAX];
};

static la_ssize_t take(struct archive *a, void *arg, const void **bytes)
{
	struct tar_in *t = arg;
	if (t->in_header && t->ch->taken - t->header > HEADER_MAX) {
		archive_set_error(a, EFBIG, "its headers are too large");
		return ARCHIVE_FATAL;
	}
	ssize_t n = channel_take(t->ch, (const uint8_t **)bytes);
	if (n < 0)
		t->lost = (int)n;
	return n < 0 ? ARCHIVE_FATAL : n;
}

/* Reading failed: for the connection's reasons, or the archive's own. */
static int broken(const struct tar_in *t, struct fault *f)
{
	if (t->lost < 0)
		return t->lost;
	const char *why = archive_error_string(t->unpack.archive);
	return fault_invalid(f, "data", "no tar archive, or a damaged one: %s",
			     why ? why : "it ends too early");
}

/* 1 with *e, 0 at the end, -errno. */
static int next(struct tar_in *t, struct archive_entry **e, struct fault *f)
{
	t->in_header = true;
	t->header = t->ch->taken;
	int r = archive_read_next_header(t->unpack.archive, e);
	t->in_header = false;
	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && archive_errno(t->unpack.archive) == NAME_NOT_CONVERTED))
		return broken(t, f);
	r = unpack_name(&t->unpack, *e, f);
	return r < 0 ? r : 1;
}

/* The target as a folder, made if it is missing. */
static int open_folder(struct tar_in *t, struct fault *f)
{
	int r = parents_make(&t->where, true, &t->unpack.dirs.owner, &t->fresh, f);
	if (r < 0)
		return r;
	int fd = where_resolve(&t->where, O_RDONLY | O_DIRECTORY, f);
	if (fd < 0)
		return fd;
	dirs_init(&t->unpack.dirs, fd, &t->unpack.dirs.owner);
	t->unpacking = true;
	return 0;
}

static bool is_folder(const struct tar_in *t)
{
	if (where_wants_dir(&t->where))
		return true;
	_cleanup_close_ int fd = where_resolve_path(&t->where, t->where.path, O_PATH | O_DIRECTORY);
	return fd >= 0;
}

/* The first entry is a file and the target no folder: it is kept beside the target until the next entry
 * tells. */
static int hold_first(struct tar_in *t, struct archive_entry *e, struct fault *f)
{
	struct stat st;
	int r = parents_make(&t->where, false, &t->unpack.dirs.owner, NULL, f);
	if (r == 0)
		r = where_follow(&t->where, &t->place, &t->ch->scratch, f);
	if (r < 0)
		return r;
	if (t->unpack.no_clobber && fstatat(t->place.dir, t->place.name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return where_fail(&t->where, NULL, "open", EEXIST, f);
	memcpy(t->first_name, t->unpack.name, sizeof t->first_name);
	t->unpack.name[0] = '\0'; /* what fails now is the target */
	r = unpack_contents(&t->unpack, e, &t->first, t->place.dir, f);
	t->holding = r == 0;
	return r;
}

/* There is a second: the target becomes a folder, and the first goes into it. */
static int place_first(struct tar_in *t, struct fault *f)
{
	char second[PATH_MAX];
	memcpy(second, t->unpack.name, sizeof second);
	int r = open_folder(t, f);
	if (r < 0)
		return r;
	memcpy(t->unpack.name, t->first_name, sizeof t->unpack.name);
	r = unpack_install(&t->unpack, &t->first, f);
	memcpy(t->unpack.name, second, sizeof t->unpack.name);
	t->holding = false;
	return r;
}

static int unpack_one(struct tar_in *t, struct archive_entry *e, struct fault *f)
{
	int r = 0;
	if (!t->unpacking && !t->holding && unpack_is_file(e) && t->unpack.name[0] && !is_folder(t))
		return hold_first(t, e, f);
	if (!t->unpacking)
		r = t->holding ? place_first(t, f) : open_folder(t, f);
	return r < 0 ? r : unpack_entry(&t->unpack, e, t->fresh, f);
}

static int finish(struct tar_in *t, struct fault *f)
{
	if (t->holding) {
		int r = beside_install(&t->first, t->place.dir, t->place.name, t->unpack.no_clobber);
		return r < 0 ? where_fail(&t->where, NULL, "rename", -r, f) : 0;
	}
	int r = t->unpacking ? 0 : open_folder(t, f);
	if (r < 0)
		return r;
	const char *stage;
	t->unpacking = false;
	r = dirs_leave(&t->unpack.dirs, &stage);
	const char *path = t->unpack.dirs.path;
	return r < 0 ? where_fail(&t->where, path[0] ? path : NULL, stage, -r, f) : 0;
}

/* What follows the archive's end is padding. */
static int drain(struct tar_in *t)
{
	const uint8_t *bytes;
	ssize_t n;
	while ((n = channel_take(t->ch, &bytes)) > 0)
		;
	return (int)n;
}

static int unpack_all(struct tar_in *t, struct fault *f)
{
	struct archive *a = t->unpack.archive;
	struct archive_entry *e;
	archive_read_support_format_tar(a);
	if (archive_read_open(a, t, NULL, take, NULL) != ARCHIVE_OK)
		return broken(t, f);
	int r;
	while ((r = next(t, &e, f)) > 0) {
		r = unpack_one(t, e, f);
		/* A hard link may have contents of its own, which are not wanted. */
		if (r == 0 && archive_read_data_skip(a) != ARCHIVE_OK)
			r = -EPROTO;
		if (r < 0)
			return f->code == TENON__CODE__CODE_OK ? broken(t, f) : r;
	}
	if (r == 0)
		r = drain(t);
	return r == 0 ? finish(t, f) : r;
}

static int start(struct tar_in *t, const Tenon__TarIn *in, struct fault *f)
{
	if (in->keep_owner && in->owner.len > 0)
		return fault_invalid(f, "owner", "either an owner or those of the archive");
	int r = where_open(&t->where, in->at, "at", &t->ch->scratch, f);
	if (r == 0)
		r = owner_resolve_new(in->owner, "owner", &t->unpack.owner, &t->ch->scratch, f);
	if (r < 0)
		return r;
	t->unpack.dirs.owner = t->unpack.owner;
	t->unpack.target = &t->where;
	t->unpack.keep_owner = in->keep_owner;
	t->unpack.devices = in->devices;
	t->unpack.no_clobber = in->no_clobber;
	t->unpack.archive = archive_read_new();
	if (!t->unpack.archive)
		return fault_exhausted(f, NULL, "no memory for the archive");
	return channel_answer_done(t->ch);
}

int files_tar_in(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		 struct fault *f)
{
	(void)ctx;
	static struct tar_in state; /* too large for the stack */
	struct tar_in *t = &state;
	const char *stage;
	t->ch = ch;
	t->lost = 0;
	t->in_header = false;
	t->where = WHERE_NONE;
	t->unpacking = t->fresh = t->holding = false;
	t->place = PLACE_NONE;
	t->first = BESIDE_NONE;
	t->unpack.archive = NULL;
	t->unpack.name[0] = '\0';
	mode_t mask = umask(0); /* nodes are made with the mode they are to have */
	int r = start(t, req->tar_in, f);
	if (r == 0)
		r = unpack_all(t, f);
	if (t->unpacking)
		dirs_leave(&t->unpack.dirs, &stage); /* the failure before is the one to tell */
	umask(mask);
	beside_discard(&t->first);
	place_close(&t->place);
	where_close(&t->where);
	archive_read_free(t->unpack.archive);
	return r < 0 ? r : channel_end(ch, ch->taken);
}
