#include "guest/upgrade/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/boot/identity.h"
#include "guest/exec/cgroup.h"
#include "guest/exec/check.h"
#include "guest/exec/env.h"
#include "guest/link/pack.h"
#include "proto/cleanup.h"

#define PREFIX 12
#define FD_END 65536 /* no agent's table is larger */

static const uint8_t magic[8] = {'T', 'N', 'H', 'A', 'N', 'D', '\r', '\n'};

int handover_write(Tenon__Handover *h, struct err *e)
{
	h->version = HANDOVER_VERSION;
	h->min_version = HANDOVER_MIN;
	h->arena_layout = exec_table_layout();
	size_t len = tenon__handover__get_packed_size(h);
	if (len > HANDOVER_MAX - PREFIX)
		return err_set(e, "handover", EMSGSIZE, "it takes %zu bytes", len);
	_cleanup_close_ int fd = memfd_create("handover", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)(PREFIX + len)) < 0)
		return err_sys(e, "handover", errno, "memfd");
	uint8_t *mem = mmap(NULL, PREFIX + len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return err_sys(e, "handover", errno, "cannot map %zu bytes", len);
	memcpy(mem, magic, sizeof magic);
	wire_put_u32(mem + sizeof magic, (uint32_t)len);
	tenon__handover__pack(h, mem + PREFIX);
	munmap(mem, PREFIX + len); /* no writable mapping may be left when it is sealed */
	if (fcntl(fd, F_ADD_SEALS, HANDOVER_SEALS) < 0)
		return err_sys(e, "handover", errno, "seal");
	return steal_fd(&fd);
}

bool handover_is_one(int fd)
{
	uint8_t head[sizeof magic];
	return fcntl(fd, F_GET_SEALS) == HANDOVER_SEALS && pread(fd, head, sizeof head, 0) == sizeof head &&
	       memcmp(head, magic, sizeof magic) == 0;
}

const Tenon__Handover *handover_parse(const uint8_t *bytes, size_t n, struct bump *b, struct err *e)
{
	if (n < PREFIX || memcmp(bytes, magic, sizeof magic) != 0 ||
	    wire_get_u32(bytes + sizeof magic) != n - PREFIX) {
		err_set(e, "handover", EINVAL, "%zu bytes are no handover", n);
		return NULL;
	}
	const Tenon__Handover *h = (const Tenon__Handover *)pack_unpack(b, &tenon__handover__descriptor,
									bytes + PREFIX, n - PREFIX);
	if (!h)
		err_set(e, "handover", EINVAL, "it does not unpack");
	else if (h->min_version > HANDOVER_VERSION || h->version < HANDOVER_OLDEST)
		err_set(e, "handover", EPROTO, "version %u, for readers from %u on; this one is %d",
			h->version, h->min_version, HANDOVER_VERSION);
	else if (h->arena_layout != exec_table_layout())
		err_set(e, "handover", EPROTO, "the executions are laid out in another way");
	else if (h->boot_id.len != BOOT_ID_SIZE || h->n_env > ENV_MAX || h->n_cgroups > CGROUP_POOL)
		err_set(e, "handover", EINVAL, "a field is out of bounds");
	else
		return h;
	return NULL;
}

const Tenon__Handover *handover_read(int fd, void **memory, struct err *e)
{
	uint8_t *mem = *memory = memory_reserve(HANDOVER_MEMORY);
	ssize_t n = mem ? pread(fd, mem, HANDOVER_MAX, 0) : -1;
	if (n < 0) {
		err_sys(e, "handover", errno, "cannot read it");
		return NULL;
	}
	struct bump b;
	bump_init(&b, mem + HANDOVER_MAX, HANDOVER_SCRATCH);
	return handover_parse(mem, (size_t)n, &b, e);
}

/* ---- descriptors ---- */

int handover_each_fd(const Tenon__Handover *h, const struct exec_table *t,
		     int (*visit)(int fd, enum handover_fd kind, void *arg), void *arg)
{
	const struct {
		uint32_t fd;
		enum handover_fd kind;
	} own[] = {{h->arena_fd, HANDOVER_FD_OTHER},     {h->listener_fd, HANDOVER_FD_LISTENER},
		   {h->namespace_fd, HANDOVER_FD_OTHER}, {h->terminals_fd, HANDOVER_FD_OTHER},
		   {h->upper_fd, HANDOVER_FD_OTHER},     {h->cgroup_fd, HANDOVER_FD_OTHER}};
	int r = 0;
	for (size_t i = 0; r == 0 && i < sizeof own / sizeof *own; i++)
		if (own[i].fd > 0)
			r = visit(own[i].fd < FD_END ? (int)own[i].fd : FD_END, own[i].kind, arg);
	if (!t->arena)
		return r;
	for (int i = exec_table_next(t, -1); r == 0 && i >= 0; i = exec_table_next(t, i)) {
		const struct exec_row *x = exec_table_row(t, i);
		const int fds[] = {x->in.fd, x->out[0].fd, x->out[1].fd};
		for (int k = 0; r == 0 && k < 3; k++)
			if (fds[k] >= 0)
				r = visit(fds[k], k == 0 ? HANDOVER_FD_WRITE : HANDOVER_FD_READ, arg);
	}
	return r;
}

static bool is_of_kind(int fd, enum handover_fd kind)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL), yes = 0;
	socklen_t len = sizeof yes;
	if (flags < 0 || fstat(fd, &st) < 0)
		return false;
	switch (kind) {
	case HANDOVER_FD_LISTENER:
		return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
	case HANDOVER_FD_READ:
	case HANDOVER_FD_WRITE:
		return (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) && (flags & O_NONBLOCK) &&
		       (flags & O_ACCMODE) != (kind == HANDOVER_FD_READ ? O_WRONLY : O_RDONLY);
	default:
		return true;
	}
}

struct claims {
	uint64_t taken[FD_END / 64];
	struct err *e;
};

static int claim(int fd, enum handover_fd kind, void *arg)
{
	struct claims *c = arg;
	if (fd < 3 || fd >= FD_END || !is_of_kind(fd, kind))
		return err_set(c->e, "handover", EBADF, "descriptor %d is not what it is said to be", fd);
	uint64_t bit = 1ULL << fd % 64;
	if (c->taken[fd / 64] & bit)
		return err_set(c->e, "handover", EINVAL, "descriptor %d is named twice", fd);
	c->taken[fd / 64] |= bit;
	return 0;
}

int handover_check(const Tenon__Handover *h, const struct exec_table *t, struct err *e)
{
	for (int i = exec_table_next(t, -1); i >= 0; i = exec_table_next(t, i)) {
		const struct exec_row *x = exec_table_row(t, i);
		if (x->state == EXEC_FREE || x->state == EXEC_SPAWNING || x->state == EXEC_ABORTED)
			continue; /* it will be over before the program changes */
		int r = exec_check_row(x, e);
		if (r < 0)
			return r;
		if (x->pid > 0 && exec_table_find_pid(t, x->pid) != i)
			return err_set(e, "arena", EINVAL, "pid %d is in two rows", x->pid);
	}
	if (!exec_table_wide_fits(t))
		return err_set(e, "arena", EINVAL, "a wide ring is that of two outputs");
	struct claims c = {.e = e};
	return handover_each_fd(h, t, claim, &c);
}
