#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/files/files.h"
#include "guest/files/walk.h"
#include "guest/files/watched.h"
#include "guest/files/where.h"
#include "proto/cleanup.h"

#define EVENTS (IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB)
#define TOP_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF)
#define PAIR_MS 20 /* how long the other half of a rename may take to be seen */

struct watch {
	struct channel *ch;
	const struct where *top;
	bool recursive, is_dir;
	int fd, top_wd;
	struct watched dirs;
	struct walk walk;
	/* The first half of a rename, or cookie 0. */
	uint32_t cookie;
	bool moved_dir;
	char moved[WALK_PATH_MAX];
	char name[WALK_PATH_MAX]; /* of the event at hand */
};

static ProtobufCBinaryData bytes_of(const char *s)
{
	return (ProtobufCBinaryData){strlen(s), (uint8_t *)s};
}

static int tell(struct watch *w, Tenon__ChangeKind kind, const char *name, const char *to, bool is_dir)
{
	Tenon__FileChange change = TENON__FILE_CHANGE__INIT;
	change.kind = kind;
	change.name = bytes_of(name);
	change.to = bytes_of(to);
	change.is_dir = is_dir;
	Tenon__BulkEvent event = TENON__BULK_EVENT__INIT;
	event.kind_case = TENON__BULK_EVENT__KIND_CHANGE;
	event.change = &change;
	return channel_give_event(w->ch, &event);
}

/* ---- watches ---- */

/* By descriptor: a path could be another's by now. Its wd, or -errno. */
static int add(struct watch *w, int fd, const char *path, uint32_t more)
{
	char name[WHERE_FD_PATH];
	where_fd_path(name, fd);
	int wd = inotify_add_watch(w->fd, name, EVENTS | more);
	if (wd < 0)
		return -errno;
	int r = watched_put(&w->dirs, wd, path);
	return r < 0 ? r : wd;
}

static int add_child(struct watch *w, int dir, const char *name, const char *path)
{
	_cleanup_close_ int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
	int r = add(w, fd, path, 0);
	return r < 0 && r != -ENOENT ? r : 0;
}

static int watch_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	struct watch *w = arg;
	if (when == WALK_AFTER || !S_ISDIR(e->st->st_mode))
		return WALK_ON;
	int r = add_child(w, e->dir, e->name, e->path);
	return r < 0 ? walk_error(e, "inotify", -r) : WALK_ON;
}

static int watch_tree(struct watch *w, int path_fd, struct fault *f)
{
	int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return where_fail(w->top, NULL, "open", errno, f);
	w->walk = (struct walk){.visit = watch_entry, .arg = w, .depth_max = UINT_MAX};
	int r = walk_dir(&w->walk, fd);
	return r < 0 ? walk_fail(&w->walk, w->top, r, f) : 0;
}

/* ---- a folder that is new: what was put into it before it was watched is told, too ---- */

struct arrival {
	struct watch *watch;
	char base[WALK_PATH_MAX];
};

static int join(char *out, const char *dir, const char *name)
{
	int n = snprintf(out, WALK_PATH_MAX, "%s%s%s", dir, *dir && *name ? "/" : "", name);
	return n < WALK_PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int arrived_entry(void *arg, enum walk_when when, const struct walk_entry *e)
{
	struct arrival *a = arg;
	static char path[WALK_PATH_MAX];
	if (when == WALK_AFTER)
		return WALK_ON;
	bool is_dir = S_ISDIR(e->st->st_mode);
	int r = join(path, a->base, e->path);
	if (r == 0 && is_dir)
		r = add_child(a->watch, e->dir, e->name, path);
	if (r < 0)
		return walk_error(e, "inotify", -r);
	return tell(a->watch, TENON__CHANGE_KIND__CHANGE_CREATED, path, "", is_dir);
}

static int arrived(struct watch *w, const char *path, struct fault *f)
{
	/* The top's own descriptor is not kept: a top that was renamed is no longer what was asked for. */
	struct where below = *w->top;
	static char whole[3 * PATH_MAX];
	static struct arrival a;
	if (snprintf(whole, sizeof whole, "%s/%s", w->top->path, path) >= PATH_MAX)
		return where_fail(w->top, path, "open", ENAMETOOLONG, f);
	below.path = whole;
	int fd = where_resolve_path(&below, whole, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0; /* gone again */
	if (fd < 0)
		return where_fail(w->top, path, "open", -fd, f);
	a.watch = w;
	int r = join(a.base, path, "");
	r = r < 0 ? r : add(w, fd, path, 0);
	if (r < 0) {
		close(fd);
		return where_fail(w->top, path, "inotify", -r, f);
	}
	w->walk = (struct walk){.visit = arrived_entry, .arg = &a, .depth_max = UINT_MAX};
	r = walk_dir(&w->walk, fd);
	return r < 0 ? walk_fail(&w->walk, &below, r, f) : 0;
}

/* ---- events ---- */

/* The other half of the rename did not come: it went out of what is watched. */
static int flush_rename(struct watch *w)
{
	if (w->cookie == 0)
		return 0;
	w->cookie = 0;
	return tell(w, TENON__CHANGE_KIND__CHANGE_REMOVED, w->moved, "", w->moved_dir);
}

static int moved_to(struct watch *w, const struct inotify_event *ev, bool is_dir, struct fault *f)
{
	bool paired = w->cookie != 0 && w->cookie == ev->cookie;
	int r;
	if (paired) {
		w->cookie = 0;
		r = tell(w, TENON__CHANGE_KIND__CHANGE_RENAMED, w->moved, w->name, is_dir);
		if (r == 0 && is_dir && w->recursive)
			r = watched_rename(&w->dirs, w->moved, w->name) < 0
				    ? fault_exhausted(f, NULL, "no memory for paths")
				    : 0;
		return r;
	}
	r = flush_rename(w);
	if (r == 0)
		r = tell(w, TENON__CHANGE_KIND__CHANGE_CREATED, w->name, "", is_dir);
	return r == 0 && is_dir && w->recursive ? arrived(w, w->name, f) : r;
}

static int on_event(struct watch *w, const struct inotify_event *ev, struct fault *f)
{
	bool is_dir = ev->mask & IN_ISDIR, itself = ev->len == 0;
	if (ev->mask & IN_Q_OVERFLOW)
		return tell(w, TENON__CHANGE_KIND__CHANGE_OVERFLOW, "", "", false);
	const char *dir = watched_path(&w->dirs, ev->wd);
	if (!dir)
		return 0;
	if (join(w->name, dir, itself ? "" : ev->name) < 0)
		return tell(w, TENON__CHANGE_KIND__CHANGE_OVERFLOW, "", "", false);
	if (ev->mask & IN_MOVED_TO)
		return moved_to(w, ev, is_dir, f);
	int r = flush_rename(w);
	if (r < 0)
		return r;
	if (ev->mask & IN_IGNORED) {
		watched_drop(&w->dirs, ev->wd);
		return 0;
	}
	if (itself && ev->wd != w->top_wd)
		return 0; /* its parent tells */
	is_dir = itself ? w->is_dir : is_dir;
	if (ev->mask & IN_MOVED_FROM) {
		w->cookie = ev->cookie;
		w->moved_dir = is_dir;
		return join(w->moved, w->name, "");
	}
	if (ev->mask & (IN_DELETE | TOP_EVENTS))
		return tell(w, TENON__CHANGE_KIND__CHANGE_REMOVED, w->name, "", is_dir);
	if (ev->mask & IN_CLOSE_WRITE)
		return tell(w, TENON__CHANGE_KIND__CHANGE_WRITTEN, w->name, "", is_dir);
	if (ev->mask & IN_ATTRIB)
		return tell(w, TENON__CHANGE_KIND__CHANGE_ATTRIBUTES, w->name, "", is_dir);
	if (!(ev->mask & IN_CREATE))
		return 0;
	r = tell(w, TENON__CHANGE_KIND__CHANGE_CREATED, w->name, "", is_dir);
	return r == 0 && is_dir && w->recursive ? arrived(w, w->name, f) : r;
}

static int take_events(struct watch *w, struct fault *f)
{
	_Alignas(struct inotify_event) static char buf[65536];
	ssize_t n = read(w->fd, buf, sizeof buf);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : where_fail(w->top, NULL, "inotify", errno, f);
	for (char *p = buf; p < buf + n;) {
		const struct inotify_event *ev = (const struct inotify_event *)p;
		int r = on_event(w, ev, f);
		if (r < 0)
			return r;
		p += sizeof *ev + ev->len;
	}
	return 0;
}

/* The host says nothing more but that it has had enough. */
static int hear_host(struct watch *w)
{
	struct frame frame;
	const uint8_t *bytes;
	int r = channel_frame(w->ch, &frame, CHANNEL_IDLE);
	if (r < 0 || channel_skips(&frame))
		return r;
	ssize_t n = channel_accept(w->ch, &frame, &bytes);
	return n < 0 ? (int)n : 0;
}

/* Until the host leaves, or something fails. */
static int follow(struct watch *w, struct fault *f)
{
	for (;;) {
		struct pollfd fds[2] = {{.fd = w->ch->fd, .events = POLLIN}, {.fd = w->fd, .events = POLLIN}};
		int r = channel_wait(fds, 2, w->cookie ? PAIR_MS : -1, CHANNEL_IDLE);
		if (r == -ETIMEDOUT)
			r = flush_rename(w);
		else if (r == 0 && fds[0].revents)
			r = hear_host(w);
		else if (r == 0)
			r = take_events(w, f);
		if (r < 0)
			return r;
	}
}

static int start(struct watch *w, const Tenon__Watch *asked, struct fault *f)
{
	struct stat st;
	_cleanup_close_ int fd = where_resolve(w->top, O_PATH, f);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return where_fail(w->top, NULL, "stat", errno, f);
	w->is_dir = S_ISDIR(st.st_mode);
	w->recursive = asked->recursive && w->is_dir;
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0)
		return where_fail(w->top, NULL, "inotify", errno, f);
	w->top_wd = add(w, fd, "", TOP_EVENTS);
	if (w->top_wd < 0)
		return where_fail(w->top, NULL, "inotify", -w->top_wd, f);
	int r = w->recursive ? watch_tree(w, fd, f) : 0;
	return r < 0 ? r : channel_answer_done(w->ch);
}

int files_watch(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		struct fault *f)
{
	(void)ctx;
	static struct watch state; /* too large for the stack */
	struct watch *w = &state;
	_cleanup_where_ struct where where = WHERE_NONE;
	int r = where_open(&where, req->watch->at, "at", &ch->scratch, f);
	if (r < 0)
		return r;
	w->ch = ch;
	w->top = &where;
	w->fd = -1;
	w->cookie = 0;
	r = start(w, req->watch, f);
	if (r == 0)
		r = follow(w, f);
	close_fd(&w->fd);
	watched_clear(&w->dirs);
	return r;
}
