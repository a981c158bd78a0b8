#include "guest/exec/table.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int exec_table_init(struct exec_table *t, struct err *e)
{
	*t = (struct exec_table){.memfd = memfd_create("execs", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
	if (t->memfd < 0)
		return err_sys(e, "arena", errno, "memfd_create");
	void *mem = MAP_FAILED;
	/* Sealed in size: the box's root can open it below /proc/1/fd, and a shorter file would fault us. */
	if (ftruncate(t->memfd, sizeof *t->arena) == 0 &&
	    fcntl(t->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		mem = mmap(NULL, sizeof *t->arena, PROT_READ | PROT_WRITE, MAP_SHARED, t->memfd, 0);
	if (mem == MAP_FAILED) {
		int r = err_sys(e, "arena", errno, "cannot map %zu bytes", sizeof *t->arena);
		close(t->memfd);
		return r;
	}
	t->arena = mem;
	return 0;
}

void exec_table_finish(struct exec_table *t)
{
	munmap(t->arena, sizeof *t->arena);
	close(t->memfd);
	*t = (struct exec_table){.memfd = -1};
}

int exec_table_take(struct exec_table *t, const uint8_t id[EXEC_ID_SIZE])
{
	for (int w = 0; w < EXEC_ROWS / 64; w++) {
		uint64_t *used = &t->arena->used[w];
		if (*used == UINT64_MAX)
			continue;
		int bit = __builtin_ctzll(~*used), row = w * 64 + bit;
		*used |= 1ULL << bit;
		struct exec_row *x = exec_table_row(t, row);
		*x = (struct exec_row){.error_fd = -1, .cgroup = -1};
		x->in.fd = x->out[0].fd = x->out[1].fd = -1;
		memcpy(x->id, id, EXEC_ID_SIZE);
		return row;
	}
	return -1;
}

void exec_table_release(struct exec_table *t, int row)
{
	t->arena->used[row / 64] &= ~(1ULL << row % 64);
	if (row >= EXEC_WARM_ROWS)
		fallocate(t->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)offsetof(struct exec_arena, rings[row]), sizeof t->arena->rings[row]);
}

void exec_table_bury(struct exec_table *t, const uint8_t id[EXEC_ID_SIZE])
{
	memcpy(t->arena->tombstones[t->arena->buried++ % EXEC_TOMBSTONES], id, EXEC_ID_SIZE);
}

enum exec_found exec_table_find(const struct exec_table *t, const uint8_t id[EXEC_ID_SIZE], int *row)
{
	for (int i = exec_table_next(t, -1); i >= 0; i = exec_table_next(t, i))
		if (exec_table_row(t, i)->state != EXEC_FREE &&
		    memcmp(exec_table_row(t, i)->id, id, EXEC_ID_SIZE) == 0) {
			*row = i;
			return EXEC_LIVE;
		}
	/* Only those written: reading a page of a sparse memfd makes it. */
	uint64_t n = t->arena->buried < EXEC_TOMBSTONES ? t->arena->buried : EXEC_TOMBSTONES;
	for (uint64_t i = 0; i < n; i++)
		if (memcmp(t->arena->tombstones[i], id, EXEC_ID_SIZE) == 0)
			return EXEC_GONE;
	return EXEC_UNKNOWN;
}

int exec_table_find_pid(const struct exec_table *t, pid_t pid)
{
	for (int i = exec_table_next(t, -1); i >= 0; i = exec_table_next(t, i))
		if (exec_table_row(t, i)->pid == pid)
			return i;
	return -1;
}

int exec_table_next(const struct exec_table *t, int row)
{
	int from = row + 1;
	for (int w = from / 64; w < EXEC_ROWS / 64; w++) {
		uint64_t bits = t->arena->used[w];
		if (w == from / 64)
			bits &= UINT64_MAX << from % 64;
		if (bits)
			return w * 64 + __builtin_ctzll(bits);
	}
	return -1;
}
