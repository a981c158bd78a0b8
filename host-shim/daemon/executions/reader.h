/* The reader's inside, for executions. */
#pragma once

#include "host-shim/daemon/executions/execution.h"
#include "host-shim/daemon/executions/segment.h"

struct reader {
	TAILQ_ENTRY(reader) link;
	struct execution *execution;
	void (*wake)(void *arg);
	void *arg;
	struct segment_walk walk;
	uint64_t segment;       /* that walk is in */
	struct log_point point; /* of the walk */
	uint64_t position;      /* handed out so far */
	struct record record;   /* being handed out … */
	const uint8_t *rest;    /* … from here, or if it is NULL … */
	uint64_t rest_at;       /* … from here in the file … */
	size_t rest_len;        /* … this much */
	bool waiting, exit_given, broken;
	uint64_t progress_ms;
};

/* It makes progress, or waits at the end: the log's tail is kept for it. */
bool reader_holds(const struct reader *r, uint64_t now);
/* Calls wake if it waits and there is something; true if it did. */
bool reader_wake(struct reader *r);
