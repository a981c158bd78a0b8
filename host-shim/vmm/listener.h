/* vsock.sock: where clients dial guest ports, in the form Firecracker and Cloud Hypervisor use. A client
 * writes `CONNECT <port>\n` and reads `OK <n>\n`; a refused one reads end of file. */
#pragma once

#include "loop.h"
#include "proto/err.h"
#include "vsock.h"

#include <stdint.h>
#include <sys/types.h>

/* "CONNECT 4294967294\n" is the longest line. */
#define CONNECT_LINE_MAX 19
#define CONNECT_LINE_MS 2000
#define LISTENER_WAITING_MAX 256

struct listener_client;

struct listener {
	struct loop *loop;
	struct vsock *dev;
	int fd;
	struct loop_source src;
	struct listener_client *waiting; /* those whose line is not whole yet */
	unsigned n_waiting;
};

/* Reads the line at the front of buf[0..n): its length with *port set, 0 if it may still become one, -EPROTO
 * if not. Only decimal digits, no sign, no leading zero, no 4294967295 (VMADDR_PORT_ANY). */
ssize_t connect_line_parse(const char *buf, size_t n, uint32_t *port);

/* Listens at path. 0, or -errno with *e set. */
int listener_init(struct listener *l, struct loop *loop, struct vsock *dev, const char *path, struct err *e);
void listener_finish(struct listener *l);
