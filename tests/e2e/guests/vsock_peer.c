/* A bare init for testing (and measuring) the vsock device without the agent: loads the modules that
 * /modules/boot.list names (rootfs/initramfs.sh packs them), then serves vsock ports from one epoll loop:
 *   5001 echo      every byte back, half-close kept
 *   5002 sink      takes all; at end of file answers "<bytes>\n"
 *   5003 source    reads "<bytes>\n", sends that many of the pattern, closes
 *   5004 stall     accepts and never reads
 *   5005 dial      reads "<port>\n", dials the host's port: echoes what comes from there; answers
 * "connected\n" or "error <errno>\n" 5006 command   "poweroff\n", "panic\n", "exit\n" With peer_mode=spam on
 * the kernel's command line it only writes to the console, for ever; with peer_mode=panic it panics at once.
 * The pattern is the bytes 0..250 over and over. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUF (64 * 1024)
#define PATTERN 251
enum { ECHO = 5001, SINK, SOURCE, STALL, DIAL, COMMAND, LAST = COMMAND };

struct peer {
	int fd, port;
	char *buf;
	size_t at, len; /* bytes to write back */
	uint64_t total; /* taken, or left to send */
	int eof;        /* the other side sends no more */
	int told;       /* the request line was read */
};

static int ep;
static char pattern[BUF + PATTERN];

static void die(const char *what)
{
	fprintf(stderr, "vsock_peer: %s: %s\n", what, strerror(errno));
	sleep(1);
	_exit(1); /* PID 1: a panic, so the host sees it at once */
}

static void load_modules(void)
{
	char line[256];
	FILE *list = chdir("/modules") == 0 ? fopen("boot.list", "r") : NULL;
	while (list && fgets(line, sizeof line, list)) {
		line[strcspn(line, "\n")] = '\0';
		int fd = open(line, O_RDONLY | O_CLOEXEC);
		/* ENOSYS: the small kernel, which has no modules. */
		if (fd < 0 ||
		    (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENOSYS))
			die(line);
		close(fd);
	}
	if (list)
		fclose(list);
}

static void watch(struct peer *p)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = p};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, p->fd, &ev) < 0)
		die("epoll_ctl");
}

static struct peer *peer_create(int fd, int port)
{
	struct peer *p = calloc(1, sizeof *p);
	if (!p || !(p->buf = malloc(BUF)))
		die("malloc");
	p->fd = fd;
	p->port = port;
	return p;
}

static void peer_destroy(struct peer *p)
{
	close(p->fd);
	free(p->buf);
	free(p);
}

static int dial(unsigned port)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (void *)&a, sizeof a) < 0) {
		int e = errno;
		close(fd);
		errno = e;
		return -1;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void say(struct peer *p, const char *text)
{
	if (write(p->fd, text, strlen(text)) < 0)
		perror("say");
}

/* Whole request lines come in one packet in these tests. */
static int run_line(struct peer *p, const char *line)
{
	char answer[32];
	if (p->port == SOURCE) {
		p->total = strtoull(line, NULL, 10);
		return 0;
	}
	if (p->port == DIAL) {
		int fd = dial((unsigned)atoi(line));
		if (fd >= 0)
			watch(peer_create(fd, ECHO));
		snprintf(answer, sizeof answer, fd >= 0 ? "connected\n" : "error %d\n", errno);
		say(p, answer);
		return 1;
	}
	if (strcmp(line, "poweroff\n") == 0)
		reboot(RB_POWER_OFF);
	if (strcmp(line, "panic\n") == 0) {
		int fd = open("/proc/sysrq-trigger", O_WRONLY);
		(void)!write(fd, "c", 1);
	}
	if (strcmp(line, "exit\n") == 0)
		_exit(0);
	return 1;
}

/* 1: done with this peer. */
static int pump_source(struct peer *p)
{
	while (p->total > 0) {
		size_t n = p->total < BUF ? p->total : BUF;
		ssize_t w = write(p->fd, pattern + p->at, n);
		if (w < 0)
			return errno != EAGAIN;
		p->at = (p->at + (size_t)w) % PATTERN;
		p->total -= (uint64_t)w;
	}
	return 1;
}

static int pump(struct peer *p)
{
	if (p->port == STALL)
		return 0;
	if (p->port == SOURCE && p->told)
		return pump_source(p);
	for (;;) {
		while (p->len > 0) {
			ssize_t w = write(p->fd, p->buf + p->at, p->len);
			if (w < 0)
				return errno != EAGAIN;
			p->at += (size_t)w;
			p->len -= (size_t)w;
		}
		if (p->eof) {
			char line[32];
			if (p->port == SINK) {
				snprintf(line, sizeof line, "%llu\n", (unsigned long long)p->total);
				say(p, line);
			}
			return 1;
		}
		ssize_t n = read(p->fd, p->buf, BUF);
		if (n < 0)
			return errno != EAGAIN;
		p->total += (uint64_t)n;
		p->eof = n == 0;
		if (p->port == ECHO) {
			p->at = 0;
			p->len = (size_t)n;
		} else if (p->port != SINK && n > 0) {
			p->buf[n < BUF ? n : BUF - 1] = '\0';
			p->told = 1;
			int done = run_line(p, p->buf);
			p->at = 0;
			return done || (p->port == SOURCE && pump_source(p));
		}
	}
}

static void listen_on(int port)
{
	struct sockaddr_vm a = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = (unsigned)port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (void *)&a, sizeof a) < 0 || listen(fd, 1024) < 0)
		die("listen");
	struct peer *p = calloc(1, sizeof *p);
	if (!p)
		die("calloc");
	p->fd = fd;
	p->port = -port;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

static void accept_all(struct peer *listener)
{
	int fd;
	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		watch(peer_create(fd, -listener->port));
}

int main(void)
{
	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	const char *mode = getenv("peer_mode");
	if (mode && strcmp(mode, "panic") == 0)
		_exit(1);
	for (unsigned long i = 0; mode && strcmp(mode, "spam") == 0; i++)
		printf("spam line %lu ........................................................\n", i);

	load_modules();
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)(i % PATTERN);
	ep = epoll_create1(EPOLL_CLOEXEC);
	/* The echo last: a test waits for it, and takes it that all are there. */
	for (int port = LAST; port >= ECHO; port--)
		listen_on(port);
	int doorbell = dial(5000);
	if (doorbell >= 0)
		close(doorbell);
	printf("vsock_peer: up\n");
	fflush(stdout);

	for (;;) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, -1);
		for (int i = 0; i < n; i++) {
			struct peer *p = ev[i].data.ptr;
			if (p->port < 0)
				accept_all(p);
			else if (pump(p))
				peer_destroy(p);
		}
	}
}
