/* Executions: the state table carried out on rows, pipes, processes and timers. Knows nothing of frames:
 * whoever serves the rows to a host is told of news and looks at the rows. */
#pragma once

#include <sys/resource.h>

#include "guest/exec/cgroup.h"
#include "guest/exec/filter.h"
#include "guest/exec/spawn.h"
#include "guest/exec/table.h"
#include "guest/fault.h"
#include "guest/loop.h"

enum exec_news {
	EXEC_NEWS_STARTED = 1 << 0,
	EXEC_NEWS_FAILED = 1 << 1, /* the start; why is in execs_failure() until the release */
	EXEC_NEWS_EXIT = 1 << 2,
	EXEC_NEWS_INPUT = 1 << 3, /* a credit may be due, or stdin was closed */
	EXEC_NEWS_OUTPUT = 1 << 4,
	EXEC_NEWS_FREE = 1 << 5, /* it is over: call execs_release, now or when its failure was told */
};

struct exec_watch {
	void (*news)(struct exec_watch *w, int row, unsigned news); /* enum exec_news bits */
};

/* What of a row cannot outlive this process. */
struct exec_slot {
	struct execs *owner;
	struct source in, out, err, error;
	struct timer timer; /* spawn deadline, then timeout, then grace */
	struct timer retry; /* of input that a terminal does not take */
	struct child *child;
	struct filter *awaited; /* by the child; NULL: it has its own, or needs none */
	bool unhurried;         /* the error pipe is looked at for another reason, or when `starts` fires */
	struct fault failure;
};

struct execs {
	struct loop *loop;
	struct exec_watch *watch;
	struct exec_table table;
	struct cgroup_pool cgroups; /* set up by the caller */
	struct timer renewal;       /* of those given back, once it is quiet */
	struct timer starts;        /* that are unhurried: from then on their error pipes are watched */
	struct spawn_base base;     /* likewise; what Configure changes */
	struct filters filters;
	struct exec_slot *slots; /* EXEC_ROWS */
	uint8_t *areas;          /* EXEC_ROWS × SPAWN_AREA */
};

int execs_init(struct execs *x, struct loop *loop, struct exec_watch *watch, struct err *e);

/* Goes on with the executions of the program before this one: their pipes, deadlines and children are ours.
 * memfd: its arena, taken over if this succeeds; on failure the table stays empty. News is told, so the watch
 * must be ready. What cannot be gone on with is logged. */
int execs_adopt(struct execs *x, int memfd, struct err *e);

/* Whether some child may not have left our memory yet: a start under way, or one that was given up and not
 * reaped. */
bool execs_share_memory(const struct execs *x);

/* Starts a process. Returns its row, attached and SPAWNING: STARTED or FAILED follows. Or fills *f. The id
 * must be new. */
int execs_start(struct execs *x, const Tenon__Exec *req, struct fault *f);

/* Attach: the host has [0, end) of each channel, and credit up to limit. Checks, then counts as the row's
 * stream. */
struct exec_window {
	uint64_t end, limit;
};
int execs_attach(struct execs *x, int row, const struct exec_window windows[2], struct fault *f);
void execs_detach(struct execs *x, int row);

/* From the stream. -EPROTO: the frame is malformed. The row may be gone afterwards. */
int execs_credit(struct execs *x, int row, enum frame_channel c, uint64_t acked, uint64_t limit);
int execs_input(struct execs *x, int row, uint64_t offset, const uint8_t *bytes, size_t n);
int execs_input_end(struct execs *x, int row, uint64_t total);

/* To be called when an EOF frame of the row was sent: that may be what its end was waiting for. */
void execs_settle(struct execs *x, int row);

int execs_ack(struct execs *x, int row, struct fault *f);
int execs_signal(struct execs *x, int row, int signo, Tenon__Target target, struct fault *f);

/* Sets the size of the row's terminal. */
int execs_resize(struct execs *x, int row, const Tenon__Tty *size, struct fault *f);

/* The reaper's: true if pid was an execution. */
bool execs_reaped(struct execs *x, pid_t pid, int status, const struct rusage *ru);

/* signo to all that is left of every execution. */
void execs_signal_all(struct execs *x, int signo);
/* Whether an exit record is still unacknowledged or a process unreaped. */
bool execs_pending(const struct execs *x);

/* Whether a start is under way. */
bool execs_starting(const struct execs *x);
/* Whether the session is that of an execution. */
bool execs_have_session(struct execs *x, pid_t session);
/* The id of the execution that has a cgroup of the pool, or NULL. */
const uint8_t *execs_in_cgroup(const struct execs *x, int cg);

const struct fault *execs_failure(const struct execs *x, int row);
void execs_release(struct execs *x, int row);
