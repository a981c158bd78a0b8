#include "guest/box/build.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "guest/boot/modules.h"
#include "guest/net/apply.h"
#include "proto/cleanup.h"

static int load_modules(const struct build_plan *p, struct err *e)
{
	int r = p->root.kind == ROOT_INITRAMFS ? 0 : modules_load("/modules/root.list", e);
	if (r == 0)
		r = mounts_load_modules(&p->mounts, e);
	if (r == 0 && p->net.n_interfaces > 0)
		r = modules_load("/modules/net.list", e);
	return r;
}

static int build(const struct build_plan *p, int fds[WORKER_FDS], struct err *e)
{
	int r = load_modules(p, e);
	/* A box that lives in the initramfs and mounts nothing needs no namespace of its own. */
	if (r == 0 && (p->root.kind != ROOT_INITRAMFS || p->mounts.n > 0))
		r = root_build(&p->root, fds, e);
	if (r == 0)
		r = mounts_place(&p->mounts, e);
	if (r == 0)
		r = etc_write(&p->etc, e);
	return r == 0 ? net_apply(&p->net, e) : r;
}

int build_box(void *arg, int fds[WORKER_FDS], struct err *e)
{
	_cleanup_close_ int before = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (before < 0)
		return err_sys(e, "unshare", errno, "cannot name the mount namespace");
	int r = build(arg, fds, e);
	if (r == 0)
		return 0;
	for (int i = 0; i < WORKER_FDS; i++)
		close_fd(&fds[i]);
	/* Leaving the namespace unmounts what is in it, here and now; our end would do so when the host has
	 * heard already. */
	setns(before, CLONE_NEWNS);
	return r;
}

const char *build_field(const char *stage)
{
	static const struct {
		const char *stage, *field;
	} known[] = {
		{"mounts", "configure.mounts"},           {"hosts", "configure.hosts"},
		{"resolv_conf", "configure.resolv_conf"}, {"hostname", "configure.hostname"},
		{"network", "configure.network"},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i].stage, stage) == 0)
			return known[i].field;
	return "configure.root";
}
