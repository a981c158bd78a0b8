#include "guest/box/mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "guest/boot/modules.h"
#include "guest/box/grow.h"
#include "guest/box/inroot.h"
#include "guest/take.h"
#include "proto/cleanup.h"

#define OPTIONS_MAX 4095 /* a page with its NUL: what mount(2) copies */
#define TAG_MAX 36       /* of a virtiofs device: virtio 1.2, 5.11.4 */

static const char *step = "mounts";

static bool is(const struct mount_plan *p, const char *fstype)
{
	return strcmp(p->fstype, fstype) == 0;
}

static bool has_device(const struct mount_plan *p)
{
	return !is(p, "tmpfs") && !is(p, "virtiofs");
}

static int check_target(const char *target, struct fault *f)
{
	static const char field[] = "configure.mounts.target";
	if (target[0] != '/')
		return fault_invalid(f, field, "is not absolute");
	if (target[strspn(target, "/")] == '\0')
		return fault_invalid(f, field, "is the root itself");
	for (const char *p = target; *p;) {
		p += strspn(p, "/");
		size_t len = strcspn(p, "/");
		if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return fault_invalid(f, field, "holds a . or ..");
		p += len;
	}
	return 0;
}

static int take_one(struct mount_plan *p, struct bump *store, const Tenon__Mount *req, struct fault *f)
{
	*p = (struct mount_plan){.read_only = req->read_only};
	int r = take_name(p->fstype, sizeof p->fstype, &req->fstype, "configure.mounts.fstype", f);
	if (r == 0)
		r = take_string(&p->target, store, &req->target, PATH_MAX - 1, "configure.mounts.target", f);
	if (r == 0)
		r = check_target(p->target, f);
	if (r == 0)
		r = take_string(&p->options, store, &req->options, OPTIONS_MAX, "configure.mounts.options",
				f);
	if (r < 0)
		return r;
	if (is(p, "tmpfs"))
		return req->source.len == 0 ? 0
					    : fault_invalid(f, "configure.mounts.source", "a tmpfs has none");
	size_t room = is(p, "virtiofs") ? TAG_MAX + 1 : DEVICE_NAME_MAX;
	return take_name(p->source, room, &req->source, "configure.mounts.source", f);
}

int mounts_take(struct mounts *m, struct bump *store, Tenon__Mount *const *req, size_t n, struct fault *f)
{
	m->n = 0;
	if (n > MOUNTS_MAX)
		return fault_exhausted(f, "configure.mounts", "%zu; %d at most", n, MOUNTS_MAX);
	for (size_t i = 0; i < n; i++) {
		int r = take_one(&m->plan[i], store, req[i], f);
		if (r < 0)
			return r;
	}
	m->n = n;
	return 0;
}

int mounts_load_modules(const struct mounts *m, struct err *e)
{
	for (size_t i = 0; i < m->n; i++) {
		char list[64];
		const struct mount_plan *p = &m->plan[i];
		snprintf(list, sizeof list, "/modules/%s.list", p->fstype);
		int r = has_device(p) ? modules_load("/modules/root.list", e) : 0;
		if (r == 0)
			r = modules_load(list, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int grow(const struct mount_plan *p, const char *device, struct err *e)
{
	_cleanup_close_ int root = inroot_make_dir(p->target);
	if (root < 0 || fchdir(root) < 0)
		return err_sys(e, step, errno, "cannot enter %.90s", p->target);
	int r = grow_filesystem(".", device, e);
	if (r < 0 && e)
		e->stage = step;
	return r;
}

static int place(const struct mount_plan *p, struct err *e)
{
	char device[sizeof p->source + 8];
	const char *source = is(p, "tmpfs") ? "tmpfs" : p->source;
	if (has_device(p)) {
		device_path(device, p->source);
		source = device;
		int r = device_wait(device, e);
		if (r < 0)
			return r;
	}
	_cleanup_close_ int at = inroot_make_dir(p->target);
	if (at < 0)
		return err_sys(e, step, -at, "cannot make %.90s", p->target);
	/* On the directory that was found, by whatever name. */
	if (fchdir(at) < 0 || mount(source, ".", p->fstype, p->read_only ? MS_RDONLY : 0,
				    p->options[0] ? p->options : NULL) < 0)
		return err_sys(e, step, errno, "%s as %s at %.60s", source, p->fstype, p->target);
	return p->read_only || !has_device(p) ? 0 : grow(p, device, e);
}

int mounts_place(const struct mounts *m, struct err *e)
{
	int r = 0;
	for (size_t i = 0; i < m->n && r == 0; i++)
		r = place(&m->plan[i], e);
	if (chdir("/") < 0 && r == 0)
		r = err_sys(e, step, errno, "cannot go back to the root");
	return r;
}
