/* The rows of all executions and their rings, in one memfd addressed by row number: nothing in it is a
 * pointer, so an upgraded agent can map it and go on. Sparse: a page exists once it was touched. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/exec/input.h"
#include "guest/exec/output.h"
#include "guest/exec/state.h"
#include "guest/exec/usage.h"
#include "proto/err.h"
#include "proto/frame.h"

/* What the arena holds and how: raised with every change to that (tests/agent/test_upgrade.py sees one),
 * since an upgraded agent goes on with the rows as they lie. */
#define EXEC_LAYOUT 4

#define EXEC_ROWS 1024
#define EXEC_ID_SIZE 16
#define EXEC_TOMBSTONES 4096
#define EXEC_WIDE 2      /* wide rings, for the outputs that need one most */
#define EXEC_WARM_ROWS 8 /* the lowest, used first: keep their pages from one execution to the next */

struct exec_exit {
	int status; /* of waitpid */
	bool timed_out, oom_killed;
	bool open[2]; /* stdout, stderr at the reap */
	uint64_t total[2];
	uint64_t user_us, system_us, max_rss_kib, minor_faults, major_faults;
	uint64_t ended_real, ended_mono;
};

struct exec_row {
	uint8_t id[EXEC_ID_SIZE];
	enum exec_state state;
	pid_t pid;     /* unreaped child, else 0: until the reap the number cannot be anyone else's */
	pid_t session; /* the same number, kept: what it left behind is found by it where there are no cgroups
			*/
	int error_fd;  /* read end of the error pipe while SPAWNING */
	int cgroup;    /* of the pool, or -1 */
	struct usage used_before; /* of this cgroup, by others */
	bool attached;            /* to a stream of the current connection */
	bool drop_oldest, timed_out;
	bool tty; /* out[0].fd is its master, in.fd the same once more; out[1] ended at 0 */
	uint32_t timeout_ms, grace_ms;
	uint64_t deadline; /* spawn deadline, timeout or grace, whichever runs: CLOCK_MONOTONIC; 0: none */
	uint64_t started_real, started_mono;
	struct exec_input in;
	struct exec_output out[2]; /* stdout, stderr */
	struct exec_exit exit;
};

struct exec_arena {
	struct exec_row rows[EXEC_ROWS];
	uint64_t used[EXEC_ROWS / 64];
	uint64_t buried; /* ids ever put among the tombstones */
	uint8_t tombstones[EXEC_TOMBSTONES][EXEC_ID_SIZE];
	uint8_t rings[EXEC_ROWS][3][RING_SIZE] __attribute__((aligned(4096)));
	uint8_t wide[EXEC_WIDE][RING_WIDE] __attribute__((aligned(4096)));
};

enum exec_found { EXEC_LIVE, EXEC_GONE, EXEC_UNKNOWN };

struct exec_table {
	int memfd;
	struct exec_arena *arena; /* MAP_SHARED of memfd */
};

static inline struct exec_row *exec_table_row(const struct exec_table *t, int row)
{
	return &t->arena->rows[row];
}

/* The ring of a channel, and its memory. */
static inline struct ring *exec_table_window(const struct exec_table *t, int row, enum frame_channel c)
{
	struct exec_row *r = exec_table_row(t, row);
	return c == CHANNEL_STDIN ? &r->in.ring : &r->out[c - CHANNEL_STDOUT].ring;
}

static inline uint8_t *exec_table_ring(const struct exec_table *t, int row, enum frame_channel c)
{
	uint32_t wide = exec_table_window(t, row, c)->wide;
	return wide ? t->arena->wide[wide - 1] : t->arena->rings[row][c];
}

/* Gives an output a wide ring: one that is free, or that of another which holds nothing at the moment. False
 * if there is none, or it has one. How much it holds for the host is what it can send in one round trip. */
bool exec_table_widen(struct exec_table *t, int row, enum frame_channel c);
/* Takes it back, and its memory: what it holds is lost. */
void exec_table_narrow(struct exec_table *t, int row, enum frame_channel c);

/* Whether each wide ring is that of one output at most. */
bool exec_table_wide_fits(const struct exec_table *t);

int exec_table_init(struct exec_table *t, struct err *e);

/* Names how this program lays the arena out: only an arena of the same layout may be adopted. */
uint64_t exec_table_layout(void);

/* Maps the arena of an earlier program, to be written or only to be looked at. Takes memfd if it succeeds.
 * -errno with *e: it is not an arena of this size, sealed. What the rows hold is not looked at. */
int exec_table_adopt(struct exec_table *t, int memfd, bool writable, struct err *e);

/* A copy of the rows and tombstones, without the rings, as a memfd of the same form; or -errno with *e. */
int exec_table_snapshot(const struct exec_table *t, struct err *e);
void exec_table_finish(struct exec_table *t);

/* The lowest free row, zeroed with fds at -1 and the id set; -1 if all are in use. Low rows are reused first:
 * their pages are there already. */
int exec_table_take(struct exec_table *t, const uint8_t id[EXEC_ID_SIZE]);

/* Gives the row back, and the memory of its rings unless the row is among the first few. */
void exec_table_release(struct exec_table *t, int row);
void exec_table_bury(struct exec_table *t, const uint8_t id[EXEC_ID_SIZE]);

/* EXEC_LIVE with *row, or whether the id was acknowledged lately. */
enum exec_found exec_table_find(const struct exec_table *t, const uint8_t id[EXEC_ID_SIZE], int *row);
int exec_table_find_pid(const struct exec_table *t, pid_t pid); /* -1: not ours */

/* The row after `row` that is in use (start with -1), or -1. */
int exec_table_next(const struct exec_table *t, int row);
