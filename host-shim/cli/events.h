/* Reads text/event-stream as it arrives, in any pieces. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENTS_LINE_MAX (1u << 20)

struct events {
	char *line;
	size_t len, size;
	char name[32];
	uint64_t id;
	char *data; /* of the event that is being read */
};

/* One whole event: its name, the number of its id, its data (one line, may be changed in place). False: stop.
 */
typedef bool (*events_fn)(void *arg, const char *name, uint64_t id, char *data);

/* False: fn said stop, a line is longer than EVENTS_LINE_MAX, or memory ran out. */
bool events_feed(struct events *e, const char *bytes, size_t len, events_fn fn, void *arg);
/* Forgets half an event: the connection was lost. */
void events_reset(struct events *e);
void events_finish(struct events *e);
