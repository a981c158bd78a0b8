/* File operations served in this process, all beneath a folder that is emptied after each run. */
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/bulk/bulk.h"
#include "guest/files/walk.h"

static char around[4096], scratch[4096 + 8];
static struct stat untouched;       /* `around`, as it is with nothing but the scratch folder in it */
static struct channel channel_once; /* its memory serves every run */

static int remove_one(void *arg, enum walk_when when, const struct walk_entry *e)
{
	(void)arg;
	bool is_dir = S_ISDIR(e->st->st_mode);
	if (is_dir && when == WALK_BEFORE)
		return fchmodat(e->dir, e->name, 0700, 0);
	return unlinkat(e->dir, e->name, is_dir ? AT_REMOVEDIR : 0);
}

static inline void scratch_clear(void)
{
	static struct walk walk;
	walk = (struct walk){.visit = remove_one, .depth_max = UINT_MAX};
	int fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || walk_dir(&walk, fd) != 0)
		abort();
}

static inline void scratch_remove(void)
{
	scratch_clear();
	rmdir(scratch);
	rmdir(around);
}

static inline void served_set_up(void)
{
	char cwd[2048];
	if (scratch[0])
		return;
	if (!getcwd(cwd, sizeof cwd))
		abort();
	snprintf(around, sizeof around, "%s/build/fuzz/scratch-XXXXXX", cwd);
	if (!mkdtemp(around))
		abort();
	snprintf(scratch, sizeof scratch, "%s/in", around);
	if (mkdir(scratch, 0755) < 0 || stat(around, &untouched) < 0 ||
	    channel_init(&channel_once, -1, (const uint8_t *)"", 0) < 0)
		abort();
	atexit(scratch_remove);
}

static void *read_all(void *arg)
{
	uint8_t buf[65536];
	while (read(*(int *)arg, buf, sizeof buf) > 0)
		;
	return NULL;
}

struct served_job {
	int fd;
	const uint8_t *data;
	size_t n;
};

static void *write_all(void *arg)
{
	struct served_job *job = arg;
	while (job->n > 0) {
		ssize_t sent = send(job->fd, job->data, job->n, MSG_NOSIGNAL);
		if (sent <= 0)
			break;
		job->data += sent;
		job->n -= (size_t)sent;
	}
	shutdown(job->fd, SHUT_WR);
	return NULL;
}

/* Runs serve(channel) against a host that sends these bytes and reads whatever comes. */
static inline void served_run(const uint8_t *data, size_t n, void (*serve)(struct channel *))
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	pthread_t reader, writer;
	struct served_job job = {pair[0], data, n};
	if (pthread_create(&reader, NULL, read_all, &pair[0]) ||
	    pthread_create(&writer, NULL, write_all, &job))
		abort();
	struct channel ch = channel_once;
	ch.fd = pair[1];
	serve(&ch);
	close(pair[1]);
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	close(pair[0]);
	struct stat now;
	if (stat(around, &now) < 0 || memcmp(&now.st_mtim, &untouched.st_mtim, sizeof now.st_mtim) != 0)
		abort(); /* something got out */
	scratch_clear();
}
