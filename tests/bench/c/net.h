/* What the load programs share: sockets that are dialled by name, whole reads and writes, samples. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/clock.h"

static inline void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline void write_all(int fd, const void *from, size_t n)
{
	for (const uint8_t *p = from; n > 0;) {
		ssize_t put = write(fd, p, n);
		if (put < 0)
			die("write");
		p += put;
		n -= (size_t)put;
	}
}

static inline void read_all(int fd, void *to, size_t n)
{
	for (uint8_t *p = to; n > 0;) {
		ssize_t got = read(fd, p, n);
		if (got <= 0)
			die("the other side left");
		p += got;
		n -= (size_t)got;
	}
}

static inline struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof at.sun_path)
		die(path);
	strcpy(at.sun_path, path);
	return at;
}

static inline int dial_unix(const char *path)
{
	struct sockaddr_un at = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
		die(path);
	return fd;
}

static inline int dial_tcp(int port)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

/* On loopback. */
static inline int listen_tcp(int port)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 16) < 0)
		die("bind");
	return fd;
}

static inline int accept_tcp(int listener)
{
	int one = 1, fd = accept(listener, NULL, NULL);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

/* "unix:PATH", "tcp:PORT", or "vsock:PATH:PORT", which is tenon-vmm's socket and a port behind it. */
static inline int dial(const char *where)
{
	char path[108], line[32], c = 0;
	int port;
	if (strncmp(where, "unix:", 5) == 0)
		return dial_unix(where + 5);
	if (sscanf(where, "tcp:%d", &port) == 1)
		return dial_tcp(port);
	if (sscanf(where, "vsock:%107[^:]:%d", path, &port) != 2)
		die(where);
	int fd = dial_unix(path);
	write_all(fd, line, (size_t)snprintf(line, sizeof line, "CONNECT %d\n", port));
	while (c != '\n')
		read_all(fd, &c, 1);
	return fd;
}

static inline uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* The program that prints: floor, by its path at the place measured. */
static inline const char *printer(void)
{
	const char *path = getenv("BENCH_PRINTER");
	return path ? path : "/bin/floor";
}

static inline void print_sample(uint64_t ns)
{
	printf("%llu\n", (unsigned long long)ns);
}
