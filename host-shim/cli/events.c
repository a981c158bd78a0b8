#include "events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_line(struct events *e, events_fn fn, void *arg)
{
	char *line = e->line;
	if (!*line) {
		bool go_on = !e->data || fn(arg, e->name, e->id, e->data);
		events_reset(e);
		return go_on;
	}
	char *value = strchr(line, ':');
	if (!value || value == line)
		return true; /* a comment, or nothing we know */
	*value++ = '\0';
	if (*value == ' ')
		value++;
	if (strcmp(line, "event") == 0) {
		snprintf(e->name, sizeof e->name, "%s", value);
	} else if (strcmp(line, "id") == 0) {
		e->id = strtoull(value, NULL, 10);
	} else if (strcmp(line, "data") == 0) {
		free(e->data);
		e->data = strdup(value);
		return e->data != NULL;
	}
	return true;
}

static bool append(struct events *e, const char *bytes, size_t n)
{
	if (e->len + n + 1 > e->size) {
		size_t size = e->size ? e->size : 4096;
		while (size < e->len + n + 1)
			size *= 2;
		char *line = size <= EVENTS_LINE_MAX ? realloc(e->line, size) : NULL;
		if (!line)
			return false;
		e->line = line;
		e->size = size;
	}
	memcpy(e->line + e->len, bytes, n);
	e->len += n;
	e->line[e->len] = '\0';
	return true;
}

bool events_feed(struct events *e, const char *bytes, size_t len, events_fn fn, void *arg)
{
	while (len) {
		const char *end = memchr(bytes, '\n', len);
		size_t n = end ? (size_t)(end - bytes) : len;
		if (!append(e, bytes, n))
			return false;
		if (!end)
			return true;
		if (e->len && e->line[e->len - 1] == '\r')
			e->line[e->len - 1] = '\0';
		e->len = 0;
		if (!take_line(e, fn, arg))
			return false;
		bytes += n + 1;
		len -= n + 1;
	}
	return true;
}

void events_reset(struct events *e)
{
	free(e->data);
	e->data = NULL;
	e->name[0] = '\0';
	e->len = 0;
}

void events_finish(struct events *e)
{
	events_reset(e);
	free(e->line);
	e->line = NULL;
	e->size = 0;
}
