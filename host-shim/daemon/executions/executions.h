/* Executions: what rest/ and boxes/ may do with them. All calls and callbacks are on the loop thread.
 *
 * - registry: every execution that this host still knows, by box and id: live, finished and kept, or reaped
 *   (410).
 * - session: the conversation with the agent of one running VM: links (made again when they break), boot id,
 *   Configure, the live executions. Made by boxes/ when a VM runs, ended when it has ended.
 * - execution: one command: its row, its durable log, its stdin.
 * - reader: a cursor over an execution's log at a client's own pace.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "host-shim/daemon/link/bulk.h"
#include "host-shim/daemon/store/store.h"
#include "proto/err.h"
#include "proto/tenon.pb-c.h"

struct executions; /* the registry */
struct session;
struct execution;
struct reader;

/* A typed failure for REST: kind decides status and code; the rest is detail. */
enum failure_kind {
	FAIL_INVALID,
	FAIL_NOT_FOUND,
	FAIL_CONFLICT,
	FAIL_EXISTS,
	FAIL_GONE,
	FAIL_EXEC,
	FAIL_EXHAUSTED,
	FAIL_UNAVAILABLE,
	FAIL_TIMEOUT,
	FAIL_UNSUPPORTED,
	FAIL_PERMISSION,
	FAIL_NO_SPACE, /* of a file system: in the box, or of the state */
	FAIL_IMAGE,    /* it cannot be had, or is not what it says */
	FAIL_INTERNAL,
};
struct failure {
	enum failure_kind kind;
	char stage[32];    /* "execve"; empty if none */
	int errnum;        /* Linux errno in the guest, 0 if none */
	char field[64];    /* the agent's name of what it refuses: "exec.user"; empty if none */
	char message[512]; /* for people; names the field and the limit */
	char path[513]; /* the file in the box that it is about, as far as it is printable; empty if none */
};
/* What an agent's error means to a client. */
void failure_from_agent(struct failure *f, const Tenon__Error *m);

/* ---- registry ---- */
struct executions_config {
	uv_loop_t *loop;
	struct store *store;
	const char *state_dir; /* copied; logs live in <state_dir>/boxes/<box>/executions/<id>/ */
	uint64_t host_epoch;   /* tenond's start counter << 32 */
	uint64_t log_limit;    /* bytes per execution before backpressure or dropping; 0: 64 MiB */
	uint64_t retention_ms; /* finished executions are kept this long; 0: 24 h */
};
/* Loads rows; starts the log writer thread. Live rows wait for their box's session (adoption). */
int executions_create(struct executions **out, const struct executions_config *c, struct err *e);
/* After its sessions, and with no reader or reference left; writes what is queued. Executions are not ended.
 * Closes handles: run the loop once more. */
void executions_destroy(struct executions *xs);
/* By the 32 hex digits that REST shows. *reaped is set if it existed and is gone (410). */
struct execution *executions_find(struct executions *xs, const char *box_id, const char *id, bool *reaped);
/* Those of a box that executions_find would find, in no order. */
void executions_each(struct executions *xs, const char *box_id, void (*fn)(void *arg, struct execution *x),
		     void *arg);
/* The box is deleted: forget its executions and remove their logs. */
void executions_forget_box(struct executions *xs, const char *box_id);

/* ---- session ---- */
struct session_config {
	struct executions *executions;
	const char *box_id;
	const char *socket_path; /* vsock.sock, or a plain-host agent's socket with port 0 */
	unsigned port;
	void *arg;
	/* HELLO done (at first, and after every reconnect). boxes/ answers with session_configure if
	 * !hello->configured. */
	void (*up)(void *arg, const Tenon__Hello *hello);
	/* The agent came back with another boot id: the VM rebooted under us; its executions were ended as
	 * killed. */
	void (*rebooted)(void *arg);
};
int session_create(struct session **out, const struct session_config *c, struct err *e);
/* Dial now (doorbell heard) instead of at the next retry. Retries run by themselves, 20 ms to 500 ms apart.
 */
void session_nudge(struct session *s);
typedef void (*session_done_fn)(void *arg, const struct failure *f); /* f NULL: success */
/* Each has its own deadline and calls done exactly once, also when the session ends first. */
void session_configure(struct session *s, const Tenon__Configure *c, unsigned deadline_ms,
		       session_done_fn done, void *arg);
void session_shutdown(struct session *s, unsigned grace_ms, session_done_fn done, void *arg);
/* Freezes what runs in the box and its file system, on which everything is then written; by itself the agent
 * thaws them after max_ms. Executions cannot be started until session_resume: FAIL_CONFLICT. */
void session_quiesce(struct session *s, unsigned max_ms, session_done_fn done, void *arg);
void session_resume(struct session *s, session_done_fn done, void *arg);
/* reason set: the VM has ended. What is known is drained; every live execution whose exit is not known ends
 * as killed with this reason. NULL: tenond goes and the VM stays; a later session takes up where this one
 * stopped. */
void session_destroy(struct session *s, const char *reason);
/* A bulk connection of this VM, for one operation: wake and arg as in bulk_config. -ENOTCONN while the link
 * is down. It may outlast the session, not the loop. */
int session_bulk(struct session *s, const Tenon__BulkRequest *req, void (*wake)(void *arg), void *arg,
		 struct bulk **out, struct err *e);
bool session_up(const struct session *s); /* HELLO is done and the link stands */
/* Bytes of stdin that were sent, and of stdout and stderr that came; each once, whatever the link did. */
struct session_traffic {
	uint64_t sent, received;
};
struct session_traffic session_traffic(const struct session *s);
unsigned session_running(const struct session *s); /* live executions: for "is it idle" */
/* CLOCK_MONOTONIC, ms: when the last of them ended; 0 if none has. */
uint64_t session_idle_since(const struct session *s);

/* ---- starting ---- */
enum exec_seccomp { SECCOMP_OF_PRESET, SECCOMP_OFF, SECCOMP_ON, SECCOMP_RULES };
struct exec_rlimit {
	uint32_t resource; /* RLIMIT_ number, getrlimit(2) */
	uint64_t soft, hard;
};
#define EXEC_RLIMITS_MAX 16      /* as many as Linux has */
struct exec_spec {               /* borrowed during executions_start */
	const char *const *argv; /* NULL-terminated, at least one */
	const char *const *env;  /* NAME=value, NULL-terminated; may be NULL */
	const char *cwd;         /* NULL: "/" */
	bool with_stdin;
	bool end_only;       /* only the end is waited for: the start may be told late */
	uint32_t timeout_ms; /* 0: none */
	bool tty;            /* output comes on stdout only; there is always a stdin */
	uint32_t rows, cols; /* of the terminal; 0: the agent's default */
	const char *user;    /* docker's form; NULL: root */
	Tenon__Preset preset;
	enum exec_seccomp seccomp;
	const uint8_t *rules; /* SECCOMP_RULES: a packed tenon.SeccompRules */
	size_t rules_len;
	uint64_t cap_add, cap_drop; /* bit n: capability n, all ones: ALL. The preset's, less drop, and add */
	bool no_new_privs;
	struct exec_rlimit rlimits[EXEC_RLIMITS_MAX];
	unsigned n_rlimits;
	/* Of its cgroup; 0: no limit, or the kernel's default. */
	uint64_t memory_max, memory_high; /* bytes */
	uint32_t pids_max, cpu_quota_us, cpu_weight;
};
/* Commits the row, asks the agent, and calls back after execve succeeded (x, f NULL) or failed (x NULL, f
 * set: nothing is left of it). Deadline 30 s. The session must be up and configured. */
typedef void (*execution_started_fn)(void *arg, struct execution *x, const struct failure *f);
void executions_start(struct session *s, const struct exec_spec *spec, execution_started_fn done, void *arg);

/* ---- one execution ---- */
struct execution *execution_ref(struct execution *x);
void execution_unref(struct execution *x);
const char *execution_id(const struct execution *x); /* 32 hex digits */
enum execution_status { EXECUTION_RUNNING, EXECUTION_COMPLETED, EXECUTION_KILLED, EXECUTION_TIMED_OUT };
struct execution_info {
	enum execution_status status;
	int exit_code;                 /* valid unless RUNNING: code, or -N for death by signal N */
	bool has_exit;                 /* false if the VM ended first: exit_code is -1 */
	char reason[160];              /* why KILLED, for people; empty else */
	uint64_t started_ms, ended_ms; /* unix time */
	uint64_t duration_ms;
	uint64_t end; /* log position */
};
void execution_get_info(const struct execution *x, struct execution_info *out);
typedef void (*execution_done_fn)(void *arg, const struct failure *f);
void execution_signal(struct execution *x, int signo, execution_done_fn done, void *arg);
/* Of its terminal; without one FAIL_CONFLICT. */
void execution_resize(struct execution *x, unsigned rows, unsigned cols, execution_done_fn done, void *arg);
void execution_kill(struct execution *x, execution_done_fn done, void *arg); /* KILL to all of it */
/* Copies data; done when the agent has acknowledged the bytes (POST …/input), or failed. At most 1 MiB per
 * call and EXECUTION_STDIN_MAX queued: beyond that FAIL_EXHAUSTED. done may be NULL. */
#define EXECUTION_STDIN_MAX (4u << 20)
void execution_write(struct execution *x, const void *data, size_t len, execution_done_fn done, void *arg);
void execution_close_stdin(struct execution *x);
size_t execution_stdin_queued(const struct execution *x); /* for a WebSocket to stop reading */
void execution_on_stdin_drain(struct execution *x, void (*fn)(void *arg),
			      void *arg); /* one-shot: below half */
/* DELETE: kills it if it runs; once it has ended and its readers have closed it is reaped (410). */
void execution_discard(struct execution *x, execution_done_fn done, void *arg);
/* One listener: fn runs once when its end is in the database; it must not be so yet. fn NULL: nobody listens
 * any more. */
void execution_on_end(struct execution *x, void (*fn)(void *arg), void *arg);
/* Whether the agent has said how it ended, which the database may not know yet: exit_code as in its info. */
bool execution_has_ended(const struct execution *x, int *exit_code);
/* One attach at a time: false if somebody holds it. */
bool execution_attach(struct execution *x);
void execution_detach(struct execution *x);
/* The log position that attached clients have confirmed (their last WebSocket pong), 0 at first; a reattach
 * begins here. Only grows. Kept in the row, written behind: it survives tenond, at worst a little stale. */
uint64_t execution_seen(const struct execution *x);
void execution_set_seen(struct execution *x, uint64_t position);

/* ---- reading ---- */
enum reader_kind { READ_DATA, READ_GAP, READ_EXIT, READ_WAIT, READ_ERROR };
struct reader_item {
	enum reader_kind kind;
	int channel;         /* 1 stdout, 2 stderr (DATA, GAP) */
	const uint8_t *data; /* valid until the next call; NULL: still in the file */
	size_t len;
	uint64_t position;         /* log position after this item: Last-Event-ID */
	uint64_t gap_from, gap_to; /* log positions missing */
	int file;                  /* where data that is NULL lies: a file of the log, borrowed until … */
	uint64_t at;               /* … the next call, and the offset there */
};
/* Starts at log position `from` (clamped to the end; below the base yields a GAP first). wake runs, once per
 * READ_WAIT, when there is more. The reader holds a reference to x. A reader that makes progress holds the
 * log's tail. */
int reader_open(struct reader **out, struct execution *x, uint64_t from, void (*wake)(void *arg), void *arg,
		struct err *e);
void reader_close(struct reader *r);
/* Next item: data of one channel, at most max bytes, split anywhere (framing is the caller's); where there is
 * much of it, it may stay in the file, for sendfile(2) or reader_load. READ_EXIT once
 * the log has the exit and its totals and all before it was read; after it only READ_WAIT. */
void reader_next(struct reader *r, size_t max, struct reader_item *out);
/* Reads what reader_next has left in the file: afterwards DATA has its data, or the item is READ_ERROR, as
 * all that follow. */
void reader_load(struct reader *r, struct reader_item *item);
uint64_t reader_position(const struct reader *r);
