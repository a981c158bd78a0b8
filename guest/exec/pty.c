#include "guest/exec/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define ROWS_DEFAULT 24
#define COLS_DEFAULT 80

static int check_one(uint32_t asked, const char *field, struct fault *f)
{
	return asked > UINT16_MAX ? fault_invalid(f, field, "%u is above %d", asked, UINT16_MAX) : 0;
}

int pty_size(const Tenon__Tty *asked, const char *rows_field, const char *cols_field, struct winsize *size,
	     struct fault *f)
{
	int r = check_one(asked->rows, rows_field, f);
	if (r == 0)
		r = check_one(asked->cols, cols_field, f);
	if (r < 0)
		return r;
	*size = (struct winsize){
		.ws_row = asked->rows ? (uint16_t)asked->rows : ROWS_DEFAULT,
		.ws_col = asked->cols ? (uint16_t)asked->cols : COLS_DEFAULT,
	};
	return 0;
}

static int open_master(int pts_fd)
{
	const int flags = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
	/* The box may mount what it likes over its own devpts, a file system that never answers too. */
	struct open_how how = {.flags = flags, .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
	int fd = pts_fd < 0 ? open("/dev/ptmx", flags)
			    : (int)syscall(SYS_openat2, pts_fd, "ptmx", &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

int pty_open(int pts_fd, const struct winsize *size, int *slave)
{
	_cleanup_close_ int master = open_master(pts_fd);
	if (master < 0)
		return steal_fd(&master);
	int locked = 0;
	struct termios t;
	if (ioctl(master, TIOCSPTLCK, &locked) < 0 || tcgetattr(master, &t) < 0)
		return -errno;
	t.c_iflag |= IUTF8;
	if (tcsetattr(master, TCSANOW, &t) < 0 || ioctl(master, TIOCSWINSZ, size) < 0)
		return -errno;
	/* Without a path: the one of the box may lead elsewhere. */
	*slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return *slave < 0 ? -errno : steal_fd(&master);
}

int pty_resize(int master, const struct winsize *size)
{
	return ioctl(master, TIOCSWINSZ, size) < 0 ? -errno : 0;
}

pid_t pty_foreground(int master)
{
	pid_t group = 0;
	return ioctl(master, TIOCGPGRP, &group) < 0 ? 0 : group;
}

/* Whether a reader of lines was given everything up to this byte. */
static bool ends_line(const struct termios *t, uint8_t c)
{
	if (c == '\n')
		return !(t->c_iflag & INLCR);
	if (c == '\r')
		return t->c_iflag & ICRNL;
	return c == t->c_cc[VEOF] || (c != 0 && (c == t->c_cc[VEOL] || c == t->c_cc[VEOL2]));
}

int pty_end_input(int master, uint8_t last, uint8_t *written)
{
	struct termios t;
	if (tcgetattr(master, &t) < 0)
		return -errno;
	uint8_t veof = t.c_cc[VEOF];
	if (veof == _POSIX_VDISABLE)
		return 0;
	int wanted = t.c_lflag & ICANON && !ends_line(&t, last) ? 2 : 1;
	for (; *written < wanted; ++*written)
		if (write(master, &veof, 1) < 0)
			return -errno;
	return 0;
}
