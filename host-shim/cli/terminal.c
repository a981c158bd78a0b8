#include "terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static bool raw;

bool terminal_is(void)
{
	return isatty(STDIN_FILENO);
}

int terminal_raw(void)
{
	static bool at_exit;
	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return -errno;
	struct termios t = before;
	cfmakeraw(&t);
	if (!at_exit && atexit(terminal_restore) != 0)
		return -ENOMEM;
	at_exit = true;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) < 0)
		return -errno;
	raw = true;
	return 0;
}

void terminal_restore(void)
{
	if (!raw)
		return;
	raw = false;
	/* Not DRAIN: a terminal whose other end is stuck must not keep us here. */
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

bool terminal_size(unsigned *rows, unsigned *cols)
{
	struct winsize w;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_row || !w.ws_col)
		return false;
	*rows = w.ws_row;
	*cols = w.ws_col;
	return true;
}
