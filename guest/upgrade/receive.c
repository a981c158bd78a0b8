#include "guest/upgrade/receive.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/upgrade/upgrade.h"
#include "guest/worker.h"
#include "proto/cleanup.h"

static int fail(struct fault *f, const char *stage, int errnum, const char *what)
{
	*f = (struct fault){.code = TENON__CODE__CODE_INTERNAL};
	return err_sys(&f->err, stage, errnum, "%s", what);
}

static int write_all(int fd, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, bytes, n);
		if (w < 0)
			return -errno;
		bytes += w;
		n -= (size_t)w;
	}
	return 0;
}

static int take_bytes(struct channel *ch, uint64_t size, int fd, struct fault *f)
{
	const uint8_t *bytes;
	ssize_t n;
	while ((n = channel_take(ch, &bytes)) > 0) {
		if (ch->taken > size)
			break;
		int r = write_all(fd, bytes, (size_t)n);
		if (r < 0)
			return fail(f, "write", -r, "no memory for the program");
	}
	if (n < 0)
		return (int)n;
	if (ch->taken != size)
		return fault_invalid(f, "upgrade.size", "is not the number of bytes that came");
	char head[SELFMAG];
	if (pread(fd, head, sizeof head, 0) != sizeof head || memcmp(head, ELFMAG, SELFMAG) != 0)
		return fault_invalid(f, "upgrade", "is no ELF file");
	return 0;
}

/* The agent's verdict. Its end of the socket is close-on-exec: the end after UPGRADE_GO means that it is the
 * new program now. */
static int await_verdict(int sock, struct fault *f)
{
	bool going = false;
	for (;;) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		struct upgrade_verdict v;
		int r = channel_wait(&p, 1, UPGRADE_VERDICT_MS, CHANNEL_BUSY);
		ssize_t n = r < 0 ? r : recv(sock, &v, sizeof v, MSG_DONTWAIT);
		if (n == sizeof v && v.go) {
			going = true;
		} else if (n == sizeof v) {
			*f = v.fault;
			return -ECANCELED;
		} else if (r < 0 || !going) {
			return fail(f, "upgrade", r < 0 ? -r : ECHILD, "the agent gave no verdict");
		} else {
			return 0;
		}
	}
}

int upgrade_receive(struct channel *ch, const Tenon__BulkRequest *req, const struct bulk_context *ctx,
		    struct fault *f)
{
	(void)ctx;
	uint64_t size = req->upgrade->size;
	if (size == 0 || size > UPGRADE_SIZE_MAX)
		return fault_invalid(f, "upgrade.size", "is not within 1 to %d bytes", UPGRADE_SIZE_MAX);
	_cleanup_close_ int binary = memfd_create("tenon-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int pair[2];
	if (binary < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(f, "memfd", errno, "no descriptors for the program");
	_cleanup_close_ int ours = pair[0], theirs = pair[1];
	int r = channel_answer_done(ch);
	if (r == 0)
		r = take_bytes(ch, size, binary, f);
	if (r < 0)
		return r;

	const int fds[WORKER_FDS] = {binary, theirs, -1, -1};
	worker_offer(fds);
	close_fd(&theirs); /* so that the agent's alone keeps it open */
	r = await_verdict(ours, f);
	if (r < 0)
		return r;
	channel_end(ch, ch->taken);
	return -ECONNRESET; /* whoever serves the host from here on is another program */
}
