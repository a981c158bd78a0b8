#include "unix_sock.h"

#include "proto/cleanup.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int address(struct sockaddr_un *addr, const char *path, struct err *e)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof addr->sun_path)
		return err_set(e, "socket", ENAMETOOLONG, "socket path of %zu bytes, at most %zu fit: %s",
			       strlen(path), sizeof addr->sun_path - 1, path);
	strcpy(addr->sun_path, path);
	return 0;
}

static int open_socket(struct err *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? err_sys(e, "socket", errno, "socket") : fd;
}

int unix_sock_listen(const char *path, struct err *e)
{
	struct sockaddr_un addr;
	int r = address(&addr, path, e);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open_socket(e);
	if (fd < 0)
		return fd;
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, "socket", errno, "unlink %s", path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
		return err_sys(e, "socket", errno, "bind %s", path);
	if (listen(fd, SOMAXCONN) < 0)
		return err_sys(e, "socket", errno, "listen %s", path);
	return steal_fd(&fd);
}

int unix_sock_connect(const char *path, struct err *e)
{
	struct sockaddr_un addr;
	int r = address(&addr, path, e);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open_socket(e);
	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
		return err_sys(e, "socket", errno, "connect %s", path);
	return steal_fd(&fd);
}
