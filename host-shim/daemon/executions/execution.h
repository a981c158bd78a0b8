/* One execution inside the daemon. What happens to it (frames, events, commits, clients) changes its fields
 * and touches it; execution_settle, once per turn of the loop, then does what has become possible: attach,
 * flush, credit, finish, wake. */
#pragma once

#include "host-shim/daemon/executions/executions.h"
#include "host-shim/daemon/executions/input.h"
#include "host-shim/daemon/executions/log.h"
#include "host-shim/daemon/executions/rows.h"
#include "host-shim/daemon/link/link.h"
#include "proto/clock.h"

#define EXECUTION_WINDOW (1024u * 1024)   /* credit per channel beyond what the log has accepted … */
#define EXECUTION_WINDOW_MIN (16u * 1024) /* … shrunk, not below this, when many run: */
#define EXECUTIONS_WINDOWS (128ull << 20) /* the sum of all windows, which bounds memory */
#define EXECUTION_HOLD_MS 45000u          /* a reader that makes progress within holds the tail */
#define EXECUTION_GRACE_MS 10000u         /* so does the time before any reader */
#define EXECUTION_START_MS 30000u
#define EXECUTION_CALL_MS 30000u
#define EXECUTION_RETRY_MS 1000u
#define EXECUTION_ACK_MS 50u /* at most that an acknowledgement waits for a packet to go with */

enum phase {
	PHASE_COMMITTING, /* the row is on its way to the database */
	PHASE_STARTING,   /* Exec is, or will be, with the agent */
	PHASE_LIVE,       /* execve succeeded, or it was found in the database */
	PHASE_FINISHING,  /* the end is on its way to the database */
	PHASE_DONE,       /* ended, kept */
	PHASE_REMOVED,    /* of no table any more; only references are left */
};

struct start; /* the caller of executions_start */

struct execution {
	struct executions *registry;
	struct session *session; /* NULL: its VM does not run, or the agent has nothing more of it */
	unsigned refs;
	enum phase phase;
	struct row row;
	char hex[33];
	LIST_ENTRY(execution) by_id;
	TAILQ_ENTRY(execution) in_session, in_finished, in_touched, in_attention, in_acks;
	bool touched, attention, live, kept, running; /* member of, or counted in */

	struct link_stream stream;
	bool attached;     /* the agent has answered on this stream */
	bool known;        /* the agent has answered for it once */
	bool retry_attach; /* the agent refused for now: wait for the next tick */
	uint64_t limit[3], credited[3];
	uint64_t wanted[3]; /* the agent has asked for credit up to there */
	struct log *log;    /* NULL: ended, and nobody reads */
	struct input input;

	bool exited;   /* the exit record is known */
	int exit_code; /* or -N */
	int exit_signal;
	bool timed_out;
	uint64_t total[3], duration_ms;
	bool ack_due, ack_sent, acked;
	bool boot_ended, closed_out;
	bool over; /* clients may be told its end, which row has: see finish() */

	void (*on_end)(void *arg);
	void *on_end_arg;

	struct start *start;
	TAILQ_HEAD(, reader) readers;
	bool had_reader, client_attached, discard;
	uint64_t grace_until; /* uv_now */
};

/* In the registry, with one reference that is the registry's. NULL without memory. */
struct execution *execution_create(struct executions *xs, const struct row *row);
/* Opens the log: a new one, or what is on disk. */
int execution_open_log(struct execution *x, bool fresh, struct err *e);
void execution_touch(struct execution *x);
/* It needs another look within EXECUTION_RETRY_MS. */
void execution_watch(struct execution *x);
void execution_settle(struct execution *x);
/* On a tick, for those that are watched. */
void execution_retry(struct execution *x);
/* The boot that it ran in is over. */
void execution_end_boot(struct execution *x, const char *reason);
/* Nothing is left of it: out of table and database. */
void execution_remove(struct execution *x);
/* Acknowledges to the agent what has ended since: of one session, or of all. */
void executions_send_acks(struct executions *xs, const struct session *of);
/* It has no session any more. */
void execution_cancel_ack(struct execution *x);

/* requests.c */
bool start_send(struct execution *x);                            /* Exec on x's stream */
void start_answer(struct execution *x, const struct failure *f); /* tells the caller; f NULL: it runs */
void failure_set(struct failure *f, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void execution_send_kill(struct execution *x);
