/* A terminal's own calls, on its master: pty(7), ioctl_tty(2), termios(3). What is read and written there is
 * output.h's and input.h's. */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "guest/fault.h"

/* A size as asked for; 0 is 24 rows, 80 columns. Fills *f (INVALID_ARGUMENT) above 65,535, naming the field.
 */
int pty_size(const Tenon__Tty *asked, const char *rows_field, const char *cols_field, struct winsize *size,
	     struct fault *f);

/* A new terminal. pts_fd: directory of the devpts that it belongs to, or -1 for the agent's own /dev/ptmx.
 * Returns the master, non-blocking and close-on-exec, with *slave, which blocks and is close-on-exec; or
 * -errno. Opens nothing that the box has mounted over its devpts. */
int pty_open(int pts_fd, const struct winsize *size, int *slave);

int pty_resize(int master, const struct winsize *size); /* 0 or -errno */

/* The foreground process group; 0 if there is none. */
pid_t pty_foreground(int master);

/* Input has ended, `last` being its last byte ('\n' if there was none): writes the terminal's VEOF, twice if
 * the first would only end a line. *written counts them, from call to call. Returns 0 when that is done,
 * -EAGAIN while the terminal takes no more, or another -errno. */
int pty_end_input(int master, uint8_t last, uint8_t *written);
