#include "guest/link/listener.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/log.h"
#include "proto/cleanup.h"

#define BACKLOG 1024
#define RETRY (NSEC_PER_SEC / 2)
#define ACCEPTS_PER_EVENT 64

int listener_parse(struct listener *l, const char *where, struct err *e)
{
	if (strncmp(where, "vsock:", 6) == 0) {
		struct sockaddr_vm *vm = (struct sockaddr_vm *)&l->address;
		char *end;
		unsigned long port = strtoul(where + 6, &end, 10);
		if (where[6] == '\0' || *end != '\0' || port > UINT32_MAX)
			return err_set(e, "listen", EINVAL, "\"%.60s\" is no vsock port", where + 6);
		*vm = (struct sockaddr_vm){
			.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = (unsigned)port};
		l->address_len = sizeof *vm;
		return 0;
	}
	struct sockaddr_un *un = (struct sockaddr_un *)&l->address;
	if (strncmp(where, "unix:", 5) != 0 || where[5] == '\0' || strlen(where + 5) >= sizeof un->sun_path)
		return err_set(e, "listen", EINVAL, "\"%.60s\" is neither vsock:PORT nor unix:PATH", where);
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	strcpy(un->sun_path, where + 5);
	l->address_len = sizeof *un;
	return 0;
}

static bool is_welcome(const struct sockaddr_storage *peer)
{
	return peer->ss_family != AF_VSOCK || ((const struct sockaddr_vm *)peer)->svm_cid == VMADDR_CID_HOST;
}

static void on_connection(struct source *s, uint32_t events)
{
	(void)events;
	struct listener *l = container_of(s, struct listener, source);
	for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
		struct sockaddr_storage peer = {0};
		socklen_t len = sizeof peer;
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0 && is_welcome(&peer)) {
			l->accepted(l, fd);
		} else if (fd >= 0) {
			close(fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* Level-triggered readiness would spin: look again later. */
			loop_remove(l->loop, &l->source);
			timer_set(l->loop, &l->retry, clock_mono() + RETRY);
			return;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

static int open_socket(struct listener *l)
{
	_cleanup_close_ int fd = socket(l->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (l->address.ss_family == AF_UNIX)
		unlink(((struct sockaddr_un *)&l->address)->sun_path);
	if (bind(fd, (struct sockaddr *)&l->address, l->address_len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return steal_fd(&fd);
}

static void try_to_listen(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, retry);
	bool first = l->fd < 0;
	if (first)
		l->fd = open_socket(l);
	int r = l->fd < 0 ? l->fd : loop_add(l->loop, &l->source, l->fd, EPOLLIN);
	if (r < 0) {
		if (!l->complained)
			log_line("link: cannot listen yet: %s", strerror(-r));
		l->complained = true;
		timer_set(l->loop, &l->retry, clock_mono() + RETRY);
	} else if (first) {
		l->listening(l);
	}
}

static void start(struct listener *l, int fd)
{
	l->source = (struct source){-1, on_connection};
	l->fd = fd;
	timer_init(&l->retry, try_to_listen);
	try_to_listen(&l->retry);
}

void listener_start(struct listener *l)
{
	start(l, -1);
}

void listener_adopt(struct listener *l, int fd)
{
	start(l, fd);
}

void listener_pause(struct listener *l)
{
	timer_clear(&l->retry);
	loop_remove(l->loop, &l->source);
}

void listener_resume(struct listener *l)
{
	try_to_listen(&l->retry);
}
