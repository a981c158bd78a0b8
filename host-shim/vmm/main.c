/* tenon-vmm: one process per box. It is QEMU's parent and QEMU's vsock device. This file confines the
 * process and hands over to box.c. */
#include "box.h"
#include "options.h"
#include "proto/cleanup.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Before anything comes from outside. What cannot be set is an error: a box without it was not asked for. */
static int confine(int ready_fd, struct err *e)
{
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* EPERM: already the leader of a group of its own, which is what it is for. */
	setsid();

	struct rlimit none = {0, 0};
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, "confine", errno, "prctl");
	if (ready_fd >= 0 && fcntl(ready_fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(e, "confine", errno, "--ready-fd %d", ready_fd);
	unsigned first = 3, last = ready_fd >= 0 ? (unsigned)ready_fd : 2;
	if ((last > first && close_range(first, last - 1, 0) < 0) || close_range(last + 1, ~0u, 0) < 0)
		return err_sys(e, "confine", errno, "close_range");
	return 0;
}

static int forget_stdio(struct err *e)
{
	int fd = open("/dev/null", O_RDWR);
	if (fd < 0 || dup2(fd, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		return err_sys(e, "confine", errno, "/dev/null");
	if (fd > 2)
		close(fd);
	return 0;
}

/* The state directory, locked as long as this process lives: two of us on one box would share its sockets. */
static int open_state_dir(const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "state_dir", errno, "opening %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, "state_dir", errno, "another tenon-vmm runs this box (lock on %s)", path);
	return steal_fd(&fd);
}

int main(int argc, char **argv)
{
	static struct box box;
	struct options options;
	struct err e = {0};
	_cleanup_close_ int state_dir = -1;

	int r = options_parse(&options, argc, argv, &e);
	bool usage = r < 0;
	if (r == 0)
		r = confine(options.ready_fd, &e);
	if (r == 0)
		r = state_dir = open_state_dir(options.state_dir, &e);
	if (r >= 0)
		r = forget_stdio(&e);
	if (r < 0) {
		fprintf(stderr, "tenon-vmm: %s\n%s", e.msg, usage ? OPTIONS_USAGE : "");
		if (options.ready_fd >= 0)
			dprintf(options.ready_fd, "%s\n", e.msg);
		options_finish(&options);
		return usage ? 2 : 1;
	}
	int status = box_run(&box, &options, state_dir, options.ready_fd);
	options_finish(&options);
	return status;
}
