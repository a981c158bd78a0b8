/* Executions as streams of the main connection: which row is served on which stream, the host's frames for
 * it, and the frames that its news become (WIRE.md §4, §5). */
#pragma once

#include "guest/exec/exec.h"
#include "guest/link/conn.h"
#include "guest/link/sched.h"

struct stream {
	uint32_t id;   /* 0: nobody is attached */
	unsigned due;  /* enum exec_news bits still to be told */
	bool answered; /* the RSP that makes it the execution's stream is queued: other frames may follow */
	bool fresh;    /* what that RSP will say */
	bool over;     /* the row is free and waits only for its failure to be told */
	bool patient;  /* the answer may go with what comes next */
	bool stderr_turn;
};

struct streams {
	struct exec_watch watch;
	struct execs *execs;
	struct stream of_row[EXEC_ROWS];
	struct sched control, data;
	struct sched late; /* rows that wait for `hurry` */
	struct timer hurry;
	bool marks_wanted_credit; /* the host knows the flag, and gives credit when it comes */
};

void streams_init(struct streams *s, struct execs *execs);

/* Makes `id` the stream of a row, to be answered now or when it has started (fresh: what the answer says).
 * The one that held it gets RESET{DETACHED} in *q. */
void streams_take(struct streams *s, int row, uint32_t id, bool fresh, struct sendq *q);

/* Queues the RSP that makes the taken stream the execution's. */
void streams_answer(struct streams *s, int row, struct sendq *q);

/* The row that is served on a stream, or -1. */
int streams_find(const struct streams *s, uint32_t id);

/* The host's DATA, CREDIT, EOF or RESET for a row. -EPROTO with *e if it is malformed there. */
int streams_receive(struct streams *s, int row, const struct frame *f, struct err *e);

/* The connection is gone, and with it every stream. */
void streams_lose(struct streams *s);

/* What may wait goes with what comes next, or when this is false again, soon. */
void streams_await_more(struct streams *s);
static inline bool streams_awaits_more(const struct streams *s)
{
	return s->hurry.next;
}

/* Queues answers, exits and credits while there is room. */
void streams_put_control(struct streams *s, struct sendq *q);

/* DATA, GAP and EOF frames of the streams whose turn it is, up to about 64 KiB, pointing into the rings. */
#define STREAMS_BATCH 16
struct streams_batch {
	uint8_t heads[STREAMS_BATCH][FRAME_SMALL_MAX];
	struct iovec pieces[STREAMS_BATCH * 3];
	int frames, n; /* heads and pieces in use */
	size_t bytes;
	int ended[STREAMS_BATCH]; /* rows whose EOF is among them */
	int n_ended;
};
void streams_gather(struct streams *s, struct streams_batch *b);
/* The batch was handed to the socket. */
void streams_sent(struct streams *s, const struct streams_batch *b);
