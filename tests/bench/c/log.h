/* What a durable log cannot do without: files for all that passes, as tenond's log has them. They have no
 * name, so that they go with the program. */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <sys/sendfile.h>

#include "net.h"

#define LOG_FILES 16
#define LOG_FILE_SIZE (4 * 1024 * 1024)

struct log {
	const char *folder;
	int fds[LOG_FILES];
	unsigned turn;
	off_t at; /* in the file whose turn it is */
};

struct log_piece {
	int fd; /* the log's, open until LOG_FILES more were begun */
	off_t at;
};

static inline void log_begin_file(struct log *l)
{
	int *fd = &l->fds[l->turn % LOG_FILES];
	if (*fd >= 0)
		close(*fd);
	*fd = open(l->folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (*fd < 0)
		die(l->folder);
	l->at = 0;
}

static inline void log_open(struct log *l, const char *folder)
{
	*l = (struct log){.folder = folder};
	for (int i = 0; i < LOG_FILES; i++)
		l->fds[i] = -1;
	log_begin_file(l);
}

static inline void log_close(struct log *l)
{
	for (int i = 0; i < LOG_FILES; i++)
		if (l->fds[i] >= 0)
			close(l->fds[i]);
}

/* Writes n bytes, at most LOG_FILE_SIZE, all into one file. */
static inline struct log_piece log_write(struct log *l, const uint8_t *buf, size_t n)
{
	if (l->at + (off_t)n > LOG_FILE_SIZE) {
		l->turn++;
		log_begin_file(l);
	}
	struct log_piece p = {l->fds[l->turn % LOG_FILES], l->at};
	if (pwrite(p.fd, buf, n, p.at) != (ssize_t)n)
		die("the log");
	l->at += (off_t)n;
	return p;
}

/* False if nobody takes them. */
static inline bool log_send(struct log_piece p, size_t n, int to)
{
	for (off_t end = p.at + (off_t)n; p.at < end;)
		if (sendfile(to, p.fd, &p.at, (size_t)(end - p.at)) <= 0)
			return false;
	return true;
}
