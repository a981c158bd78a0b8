#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/files/files.h"
#include "guest/files/owner.h"
#include "guest/files/parents.h"
#include "guest/files/walk.h"
#include "guest/files/where.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

/* What every operation here comes to. r: 0 or -errno of the stage. */
static int answer(struct channel *ch, const struct where *w, const char *stage, int r, struct fault *f)
{
	return r < 0 ? where_fail(w, NULL, stage, -r, f) : channel_answer_done(ch);
}

static int result(int r)
{
	return r < 0 ? -errno : 0;
}

/* ---- names ---- */

int files_make_dir(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		   struct fault *f)
{
	(void)ctx;
	const Tenon__MakeDir *make = req->make_dir;
	_cleanup_where_ struct where w = WHERE_NONE;
	_cleanup_place_ struct place p = PLACE_NONE;
	struct owner o;
	int r = owner_check_mode(make->mode, f);
	if (r == 0)
		r = where_open(&w, make->at, "at", &ch->scratch, f);
	if (r == 0)
		r = owner_resolve_new(make->owner, "owner", &o, &ch->scratch, f);
	if (r == 0 && make->parents)
		r = parents_make(&w, false, &o, NULL, f);
	if (r < 0)
		return r;
	if (make->parents) {
		_cleanup_close_ int there = where_resolve_path(&w, w.path, O_PATH | O_DIRECTORY);
		if (there >= 0)
			return channel_answer_done(ch);
	}
	r = where_place(&w, &p, f);
	if (r < 0)
		return r;
	return answer(ch, &w, "mkdir", parents_make_dir(p.dir, p.name, make->mode ? make->mode : 0755, &o),
		      f);
}

int files_symlink(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		  struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	_cleanup_place_ struct place p = PLACE_NONE;
	int r = where_open(&w, req->symlink->at, "at", &ch->scratch, f);
	const char *target = r < 0 ? NULL : where_string(req->symlink->target, "target", &ch->scratch, f);
	if (!target)
		return -EINVAL;
	r = where_place(&w, &p, f);
	return r < 0 ? r : answer(ch, &w, "symlink", result(symlinkat(target, p.dir, p.name)), f);
}

struct pair {
	struct where from, to;
	struct place old, new;
};

static int open_pair(struct pair *p, const Tenon__Where *from, const Tenon__Where *to, struct bump *b,
		     struct fault *f)
{
	*p = (struct pair){WHERE_NONE, WHERE_NONE, PLACE_NONE, PLACE_NONE};
	int r = where_open(&p->from, from, "from", b, f);
	if (r == 0)
		r = where_open(&p->to, to, "to", b, f);
	if (r == 0)
		r = where_place(&p->from, &p->old, f);
	return r == 0 ? where_place(&p->to, &p->new, f) : r;
}

static void close_pair(struct pair *p)
{
	where_close(&p->from);
	where_close(&p->to);
	place_close(&p->old);
	place_close(&p->new);
}

int files_rename(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		 struct fault *f)
{
	(void)ctx;
	__attribute__((cleanup(close_pair))) struct pair p;
	int r = open_pair(&p, req->rename->from, req->rename->to, &ch->scratch, f);
	if (r < 0)
		return r;
	unsigned flags = req->rename->no_replace ? RENAME_NOREPLACE : 0;
	r = result((int)syscall(SYS_renameat2, p.old.dir, p.old.name, p.new.dir, p.new.name, flags));
	/* What is missing is the old name: the new one's folder was found. */
	return answer(ch, r == -ENOENT ? &p.from : &p.to, "rename", r, f);
}

int files_link(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
	       struct fault *f)
{
	(void)ctx;
	__attribute__((cleanup(close_pair))) struct pair p;
	int r = open_pair(&p, req->link->from, req->link->to, &ch->scratch, f);
	if (r < 0)
		return r;
	r = result(linkat(p.old.dir, p.old.name, p.new.dir, p.new.name, 0));
	return answer(ch, r == -ENOENT ? &p.from : &p.to, "link", r, f);
}

/* ---- removal ---- */

static int remove_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	(void)arg;
	bool is_dir = S_ISDIR(e->st->st_mode);
	if (is_dir && when == WALK_BEFORE)
		return WALK_ON;
	if (unlinkat(e->dir, e->name, is_dir ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
		return walk_error(e, "unlink", errno);
	return WALK_ON;
}

static int remove_tree(const struct where *w, const struct place *p, struct fault *f)
{
	static struct walk walk;
	walk = (struct walk){.visit = remove_entry, .depth_max = UINT_MAX, .one_mount = true};
	/* The top may be a mount point, too. */
	int fd = walk_open(&walk, p->dir, p->name);
	if (fd < 0)
		return where_fail(w, NULL, "open", -fd, f);
	int r = walk_dir(&walk, fd);
	return r < 0 ? walk_fail(&walk, w, r, f) : 0;
}

int files_remove(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		 struct fault *f)
{
	(void)ctx;
	const Tenon__Remove *remove = req->remove;
	_cleanup_where_ struct where w = WHERE_NONE;
	_cleanup_place_ struct place p = PLACE_NONE;
	int r = where_open(&w, remove->at, "at", &ch->scratch, f);
	if (r == 0)
		r = where_place(&w, &p, f);
	if (r == -ENOENT && remove->missing_ok)
		return channel_answer_done(ch);
	if (r < 0)
		return r;
	struct stat st;
	r = result(fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW));
	bool is_dir = r == 0 && S_ISDIR(st.st_mode);
	if (is_dir && remove->recursive) {
		r = remove_tree(&w, &p, f);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = result(unlinkat(p.dir, p.name, is_dir ? AT_REMOVEDIR : 0));
	return answer(ch, &w, "unlink", r == -ENOENT && remove->missing_ok ? 0 : r, f);
}

/* ---- attributes: of what a link at the end of the path points to, of links within a tree themselves or not
 * at all ---- */

struct change {
	mode_t mode;
	struct owner owner;
};

static int change_mode(int path_fd, mode_t mode)
{
	char path[WHERE_FD_PATH];
	where_fd_path(path, path_fd);
	return result(chmod(path, mode));
}

static int chmod_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	const struct change *c = arg;
	/* A directory last: the new mode may keep us out. */
	if (S_ISLNK(e->st->st_mode) || (S_ISDIR(e->st->st_mode) && when == WALK_BEFORE))
		return WALK_ON;
	_cleanup_close_ int fd = openat(e->dir, e->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? WALK_ON : walk_error(e, "chmod", errno);
	int r = S_ISLNK(st.st_mode) ? 0 : change_mode(fd, c->mode);
	return r < 0 ? walk_error(e, "chmod", -r) : WALK_ON;
}

static int chown_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	const struct change *c = arg;
	if (when == WALK_AFTER)
		return WALK_ON;
	if (fchownat(e->dir, e->name, c->owner.uid, c->owner.gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
		return walk_error(e, "chown", errno);
	return WALK_ON;
}

static int change_tree(const struct where *w, int path_fd, walk_visit *visit, struct change *c,
		       struct fault *f)
{
	struct stat st;
	if (fstat(path_fd, &st) < 0)
		return where_fail(w, NULL, "stat", errno, f);
	if (!S_ISDIR(st.st_mode))
		return 0;
	int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return where_fail(w, NULL, "open", errno, f);
	static struct walk walk;
	walk = (struct walk){.visit = visit, .arg = c, .depth_max = UINT_MAX};
	int r = walk_dir(&walk, fd);
	return r < 0 ? walk_fail(&walk, w, r, f) : 0;
}

int files_chmod(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	struct change c = {.mode = req->chmod->mode};
	int r = owner_check_mode(req->chmod->mode, f);
	if (r == 0)
		r = where_open(&w, req->chmod->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = where_resolve(&w, O_PATH, f);
	if (fd < 0)
		return fd;
	r = req->chmod->recursive ? change_tree(&w, fd, chmod_entry, &c, f) : 0;
	return r < 0 ? r : answer(ch, &w, "chmod", change_mode(fd, c.mode), f);
}

int files_chown(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	struct change c;
	if (req->chown->owner.len == 0)
		return fault_invalid(f, "owner", "it is empty");
	int r = owner_resolve(req->chown->owner, "owner", &c.owner, &ch->scratch, f);
	if (r == 0)
		r = where_open(&w, req->chown->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = where_resolve(&w, O_PATH, f);
	if (fd < 0)
		return fd;
	r = req->chown->recursive ? change_tree(&w, fd, chown_entry, &c, f) : 0;
	if (r < 0)
		return r;
	return answer(ch, &w, "chown", result(fchownat(fd, "", c.owner.uid, c.owner.gid, AT_EMPTY_PATH)), f);
}

static struct timespec time_of(int64_t ns)
{
	int64_t second = (int64_t)NSEC_PER_SEC, s = ns / second, rest = ns % second;
	return rest < 0 ? (struct timespec){s - 1, rest + second} : (struct timespec){s, rest};
}

int files_set_times(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		    struct fault *f)
{
	(void)ctx;
	_cleanup_where_ struct where w = WHERE_NONE;
	int r = where_open(&w, req->set_times->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = where_resolve(&w, O_PATH, f);
	if (fd < 0)
		return fd;
	struct timespec times[2] = {time_of(req->set_times->atime_ns), time_of(req->set_times->mtime_ns)};
	return answer(ch, &w, "utimens", result(utimensat(fd, "", times, AT_EMPTY_PATH)), f);
}
