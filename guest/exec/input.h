/* stdin of one execution, from the host to its pipe or terminal (WIRE.md §4). */
#pragma once

#include <stdbool.h>

#include "guest/exec/ring.h"

struct exec_input {
	struct ring ring;  /* end: what the host has sent and we hold or passed on; base: what the process was
			      given */
	uint64_t told_end; /* acked and limit, as the host was last told */
	uint64_t told_limit;
	int fd;           /* write end, -1 once closed */
	bool eof;         /* the host has ended it at ring.end */
	bool closed;      /* nobody reads: what still comes is ignored */
	bool closed_told; /* by an EOF frame, or by the row that answered the stream */
	uint8_t veofs;    /* of a terminal: how many VEOF characters have told it of eof */
};

/* fd: the write end, or -1: there is no stdin, which is closed from the start. */
void exec_input_init(struct exec_input *in, int fd);

/* Nobody reads any more: what is held is thrown away, what comes is ignored. */
void exec_input_close(struct exec_input *in);

/* The host's DATA: the part at ring.end and above goes into the ring. Returns 0, or -EPROTO for a hole, for
 * bytes beyond the limit or beyond its own EOF. */
int exec_input_put(struct exec_input *in, uint8_t *mem, uint64_t offset, const uint8_t *bytes, size_t n);

/* The host's EOF. Returns 0, or -EPROTO if total is not where the bytes ended. */
int exec_input_end(struct exec_input *in, uint64_t total);

/* Writes what the pipe takes, or the terminal. Returns true if fd has served: everything is written after
 * EOF, or nobody reads (then `closed`). Closing it is the caller's. A terminal takes something also while
 * nobody holds it open: that it is gone for good its output tells. */
bool exec_input_write(struct exec_input *in, uint8_t *mem, bool tty);

/* Whether something is left that fd has not taken. */
bool exec_input_waiting(const struct exec_input *in);

/* A row is about to answer a stream: it says acked, limit and closed as they are now. */
void exec_input_attach(struct exec_input *in);

/* Whether a CREDIT is worth sending; what it says, counted as told. */
bool exec_input_credit_due(const struct exec_input *in);
void exec_input_credit(struct exec_input *in, uint64_t *acked, uint64_t *limit);
