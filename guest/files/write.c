#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/files/beside.h"
#include "guest/files/files.h"
#include "guest/files/owner.h"
#include "guest/files/parents.h"
#include "guest/files/where.h"
#include "proto/cleanup.h"

#define MODE_NEW 0644

struct target {
	const struct where *w;
	struct place place;
	struct stat was; /* if it is there already */
	bool exists;
	bool made; /* by us, in place */
	int fd;
	struct beside beside;
};

static int fail(const struct target *t, const char *stage, int errnum, struct fault *f)
{
	return where_fail(t->w, NULL, stage, errnum, f);
}

static int look(struct target *t, const Tenon__WriteFile *how, struct bump *b, struct fault *f)
{
	/* open(2) with O_EXCL does not follow a link either. */
	int r = how->how == TENON__WRITE_HOW__WRITE_CREATE ? where_place(t->w, &t->place, f)
							   : where_follow(t->w, &t->place, b, f);
	if (r < 0)
		return r;
	if (where_wants_dir(t->w))
		return fail(t, "open", EISDIR, f);
	t->exists = fstatat(t->place.dir, t->place.name, &t->was, AT_SYMLINK_NOFOLLOW) == 0;
	if (!t->exists)
		return errno == ENOENT ? 0 : fail(t, "open", errno, f);
	if (how->how == TENON__WRITE_HOW__WRITE_CREATE)
		return fail(t, "open", EEXIST, f);
	if (!S_ISREG(t->was.st_mode))
		return fail(t, "open", S_ISDIR(t->was.st_mode) ? EISDIR : EINVAL, f);
	return 0;
}

static int open_in_place(struct target *t, bool append)
{
	int flags = O_WRONLY | (append ? O_APPEND : 0);
	if (!t->exists) {
		int fd = openat(t->place.dir, t->place.name,
				flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		t->made = fd >= 0;
		return fd < 0 ? -errno : fd;
	}
	_cleanup_close_ int path = openat(t->place.dir, t->place.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (path < 0 || fstat(path, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? where_reopen(path, flags) : -EINVAL;
}

static bool in_place(const Tenon__WriteFile *how)
{
	return how->how == TENON__WRITE_HOW__WRITE_UPDATE || how->how == TENON__WRITE_HOW__WRITE_APPEND;
}

static int open_target(struct target *t, const Tenon__WriteFile *how, struct fault *f)
{
	t->fd = in_place(how) ? open_in_place(t, how->how == TENON__WRITE_HOW__WRITE_APPEND)
			      : beside_file(&t->beside, t->place.dir);
	return t->fd < 0 ? fail(t, "open", -t->fd, f) : 0;
}

static int receive(struct target *t, struct channel *ch, const Tenon__WriteFile *how, struct fault *f)
{
	off_t at = (off_t)how->offset;
	const uint8_t *bytes;
	ssize_t n;
	while ((n = channel_take(ch, &bytes)) > 0) {
		while (n > 0) {
			ssize_t done = how->how == TENON__WRITE_HOW__WRITE_APPEND
					       ? write(t->fd, bytes, (size_t)n)
					       : pwrite(t->fd, bytes, (size_t)n, at);
			if (done < 0 && errno == EINTR)
				continue;
			if (done < 0)
				return fail(t, "write", errno, f);
			bytes += done;
			at += done;
			n -= done;
		}
	}
	return (int)n;
}

/* Mode and owner as asked, else those of the file that was there. The mode last: chown(2) takes setuid away.
 */
static int dress(struct target *t, const Tenon__WriteFile *how, const struct owner *asked, struct fault *f)
{
	bool fresh = t->made || t->beside.name[0];
	struct owner o = *asked;
	if (fresh && o.uid == OWNER_UNCHANGED)
		o.uid = t->exists ? t->was.st_uid : geteuid();
	if (fresh && o.gid == OWNER_UNCHANGED)
		o.gid = t->exists ? t->was.st_gid : getegid();
	if ((o.uid != OWNER_UNCHANGED || o.gid != OWNER_UNCHANGED) && fchown(t->fd, o.uid, o.gid) < 0)
		return fail(t, "chown", errno, f);
	if (!fresh && how->mode == 0)
		return 0;
	mode_t mode = how->mode ? how->mode : t->exists ? t->was.st_mode & 07777 : MODE_NEW;
	return fchmod(t->fd, mode) < 0 ? fail(t, "chmod", errno, f) : 0;
}

static int sync_dir(int dir)
{
	_cleanup_close_ int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int complete(struct target *t, const Tenon__WriteFile *how, struct fault *f)
{
	if (how->sync && fsync(t->fd) < 0)
		return fail(t, "fsync", errno, f);
	/* Some file systems tell only here that they could not write. */
	if (close(steal_fd(&t->fd)) < 0)
		return fail(t, "close", errno, f);
	if (t->beside.name[0]) {
		int r = beside_install(&t->beside, t->place.dir, t->place.name,
				       how->how == TENON__WRITE_HOW__WRITE_CREATE);
		if (r < 0)
			return fail(t, "rename", -r, f);
	}
	int r = how->sync && !(t->exists && in_place(how)) ? sync_dir(t->place.dir) : 0;
	return r < 0 ? fail(t, "fsync", -r, f) : 0;
}

static int write_file(struct target *t, struct channel *ch, const Tenon__WriteFile *how,
		      const struct owner *o, struct fault *f)
{
	int r = look(t, how, &ch->scratch, f);
	if (r == 0)
		r = open_target(t, how, f);
	if (r == 0)
		r = channel_answer_done(ch);
	if (r == 0)
		r = receive(t, ch, how, f);
	if (r == 0)
		r = dress(t, how, o, f);
	return r == 0 ? complete(t, how, f) : r;
}

static int check(const Tenon__WriteFile *how, struct fault *f)
{
	if (how->how > TENON__WRITE_HOW__WRITE_APPEND)
		return fault_invalid(f, "how", "there is no such way to write");
	if (how->offset > 0 && how->how != TENON__WRITE_HOW__WRITE_UPDATE)
		return fault_invalid(f, "offset", "only an update has one");
	if (how->offset >= WIRE_OFFSET_END)
		return fault_invalid(f, "offset", "beyond any file");
	return owner_check_mode(how->mode, f);
}

int files_write(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		struct fault *f)
{
	(void)ctx;
	const Tenon__WriteFile *how = req->write;
	_cleanup_where_ struct where w = WHERE_NONE;
	struct owner owner, parents_owner;
	int r = check(how, f);
	if (r == 0)
		r = where_open(&w, how->at, "at", &ch->scratch, f);
	if (r == 0)
		r = owner_resolve(how->owner, "owner", &owner, &ch->scratch, f);
	if (r == 0)
		r = owner_resolve_new(how->owner, "owner", &parents_owner, &ch->scratch, f);
	if (r == 0 && how->make_parents)
		r = parents_make(&w, false, &parents_owner, NULL, f);
	if (r < 0)
		return r;
	struct target t = {.w = &w, .place = PLACE_NONE, .fd = -1, .beside = BESIDE_NONE};
	r = write_file(&t, ch, how, &owner, f);
	if (r < 0 && t.made)
		unlinkat(t.place.dir, t.place.name, 0);
	beside_discard(&t.beside);
	close_fd(&t.fd);
	place_close(&t.place);
	return r < 0 ? r : channel_end(ch, ch->taken);
}
