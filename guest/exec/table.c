#include "guest/exec/table.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/memory.h"
#include "proto/cleanup.h"

static int make_arena(struct err *e)
{
	int fd = memory_make_file("execs", sizeof(struct exec_arena));
	return fd < 0 ? err_sys(e, "arena", -fd, "cannot make %zu bytes", sizeof(struct exec_arena)) : fd;
}

int exec_table_adopt(struct exec_table *t, int memfd, bool writable, struct err *e)
{
	struct stat st;
	if (fstat(memfd, &st) < 0 || st.st_size != sizeof *t->arena ||
	    fcntl(memfd, F_GET_SEALS) != MEMORY_SEALS)
		return err_set(e, "arena", EINVAL, "descriptor %d is no arena of %zu bytes", memfd,
			       sizeof *t->arena);
	void *mem =
		mmap(NULL, sizeof *t->arena, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, memfd, 0);
	if (mem == MAP_FAILED)
		return err_sys(e, "arena", errno, "cannot map %zu bytes", sizeof *t->arena);
	*t = (struct exec_table){.memfd = memfd, .arena = mem};
	return 0;
}

int exec_table_init(struct exec_table *t, struct err *e)
{
	_cleanup_close_ int fd = make_arena(e);
	int r = fd < 0 ? fd : exec_table_adopt(t, fd, true, e);
	if (r == 0)
		steal_fd(&fd);
	return r;
}

uint64_t exec_table_layout(void)
{
	static const uint64_t facts[] = {EXEC_LAYOUT, EXEC_STATES, sizeof(struct exec_row),
					 sizeof(struct exec_arena)};
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		hash = (hash ^ facts[i]) * 0x100000001b3;
	return hash;
}

static bool copy(int to, const struct exec_arena *a, const void *from, size_t n)
{
	return pwrite(to, from, n, (const char *)from - (const char *)a) == (ssize_t)n;
}

static uint64_t tombstones_written(const struct exec_arena *a)
{
	return a->buried < EXEC_TOMBSTONES ? a->buried : EXEC_TOMBSTONES;
}

int exec_table_snapshot(const struct exec_table *t, struct err *e)
{
	const struct exec_arena *a = t->arena;
	_cleanup_close_ int fd = make_arena(e);
	if (fd < 0)
		return fd;
	/* Only what was touched: reading a page of a sparse memfd makes it. */
	bool ok = copy(fd, a, a->used, sizeof a->used) && copy(fd, a, &a->buried, sizeof a->buried) &&
		  copy(fd, a, a->tombstones, tombstones_written(a) * EXEC_ID_SIZE);
	for (int i = exec_table_next(t, -1); ok && i >= 0; i = exec_table_next(t, i))
		ok = copy(fd, a, exec_table_row(t, i), sizeof(struct exec_row));
	return ok ? steal_fd(&fd) : err_sys(e, "arena", errno, "cannot copy the rows");
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

static struct ring *output_of(const struct exec_table *t, int row, int i)
{
	return exec_table_window(t, row, (enum frame_channel)(CHANNEL_STDOUT + i));
}

bool exec_table_wide_fits(const struct exec_table *t)
{
	bool taken[EXEC_WIDE + 1] = {false};
	for (int row = exec_table_next(t, -1); row >= 0; row = exec_table_next(t, row))
		for (int i = 0; i < 2; i++) {
			uint32_t wide = output_of(t, row, i)->wide;
			if (wide > EXEC_WIDE || (wide && taken[wide]))
				return false;
			taken[wide] = true;
		}
	return true;
}

bool exec_table_widen(struct exec_table *t, int row, enum frame_channel c)
{
	struct ring *r = exec_table_window(t, row, c), *owners[EXEC_WIDE + 1] = {NULL};
	for (int other = exec_table_next(t, -1); other >= 0; other = exec_table_next(t, other))
		for (int i = 0; i < 2; i++)
			owners[output_of(t, other, i)->wide] = output_of(t, other, i);
	uint32_t wide = 1;
	while (wide <= EXEC_WIDE && owners[wide] && ring_used(owners[wide]) > 0)
		wide++;
	if (r->wide || wide > EXEC_WIDE)
		return false;
	if (owners[wide])
		owners[wide]->wide = owners[wide]->whole = 0; /* empty: there is nothing to move */
	ring_move(r, t->arena->rings[row][c], t->arena->wide[wide - 1], wide);
	return true;
}

static void punch(struct exec_table *t, const void *from, size_t size)
{
	fallocate(t->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (const char *)from - (const char *)t->arena, (off_t)size);
}

void exec_table_narrow(struct exec_table *t, int row, enum frame_channel c)
{
	struct ring *r = exec_table_window(t, row, c);
	if (r->wide && r->wide <= EXEC_WIDE) /* a row that was handed over and is refused may say anything */
		punch(t, t->arena->wide[r->wide - 1], RING_WIDE);
	r->wide = r->whole = 0;
}

void exec_table_release(struct exec_table *t, int row)
{
	exec_table_narrow(t, row, CHANNEL_STDOUT);
	exec_table_narrow(t, row, CHANNEL_STDERR);
	t->arena->used[row / 64] &= ~(1ULL << row % 64);
	if (row >= EXEC_WARM_ROWS)
		punch(t, t->arena->rings[row], sizeof t->arena->rings[row]);
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
	for (uint64_t i = 0, n = tombstones_written(t->arena); i < n; i++)
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
