#include "guest/box/furniture.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct piece {
	const char *at, *fstype, *options;
	unsigned long flags;
	enum { NEEDED, WELCOME } wish; /* a kernel may lack what is merely welcome */
};

static const struct piece pieces[] = {
	{"/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, NEEDED},
	{"/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, NEEDED},
	{"/sys/fs/cgroup", "cgroup2", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, WELCOME},
	{"/dev", "devtmpfs", "mode=0755", MS_NOSUID, NEEDED},
	{"/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC, NEEDED},
	{"/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, NEEDED},
	{"/dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, WELCOME},
};

static const struct {
	const char *target, *at;
} links[] = {
	{"/proc/self/fd", "/dev/fd"},       {"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	{"pts/ptmx", "/dev/ptmx"},
};

static int place(const struct piece *p, struct err *e)
{
	/* A read-only image cannot grow the directory; then the mount says what is wrong. */
	mkdir(p->at, 0755);
	if (mount(p->fstype, p->at, p->fstype, p->flags, p->options) == 0 || p->wish == WELCOME)
		return 0;
	return err_sys(e, "mount", errno, "%s in the box", p->at);
}

static void make_dir(const char *path, mode_t mode)
{
	if (mkdir(path, mode) == 0)
		chmod(path, mode); /* past the umask */
}

int furniture_place(struct err *e)
{
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		int r = place(&pieces[i], e);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		/* devtmpfs brings a /dev/ptmx of its own, which belongs to no box's /dev/pts. */
		unlink(links[i].at);
		if (symlink(links[i].target, links[i].at) < 0)
			return err_sys(e, "symlink", errno, "%s in the box", links[i].at);
	}
	make_dir("/run", 0755);
	make_dir("/tmp", 01777);
	return 0;
}
