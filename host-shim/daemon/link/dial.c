#include "host-shim/daemon/link/dial.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "proto/cleanup.h"

#define OK_LINE_MAX 64u /* "OK <n>\n" */

int dial_unix(const char *path, struct err *e)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof to.sun_path)
		return err_set(e, "link", ENAMETOOLONG, "socket path %s is over %zu bytes", path,
			       sizeof to.sun_path - 1);
	strcpy(to.sun_path, path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, "link", errno, "cannot make a socket");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return err_sys(e, "link", errno, "cannot connect to %s", path);
	return steal_fd(&fd);
}

bool dial_hear_greeting(struct frame_reader *r, struct err *e)
{
	const uint8_t *line = r->buf + r->start;
	size_t have = r->end - r->start;
	const uint8_t *end = memchr(line, '\n', have < OK_LINE_MAX ? have : OK_LINE_MAX);
	if (!end && have < OK_LINE_MAX)
		return false;
	if (!end || end - line < 4 || memcmp(line, "OK ", 3) != 0) {
		err_set(e, "link", EPROTO, "an answer to CONNECT that is not OK");
		return false;
	}
	r->start += (size_t)(end + 1 - line);
	return true;
}
