#include "guest/exec/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define MADE_AT_START 4
#define MOUNTED_AT "/sys/fs/cgroup"
#define CHUNKS_MAX 512 /* bound on one pass over cgroup.procs */

void cgroup_pool_init_none(struct cgroup_pool *p)
{
	p->root = -1;
	for (int i = 0; i < CGROUP_POOL; i++)
		p->entries[i] = (struct cgroup_entry){.dir = -1};
}

static bool make(struct cgroup_pool *p, int cg)
{
	char name[16];
	snprintf(name, sizeof name, "e%d", cg);
	if (mkdirat(p->root, name, 0755) < 0 && errno != EEXIST)
		return false;
	p->entries[cg].dir = openat(p->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->entries[cg].dir >= 0;
}

int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e)
{
	cgroup_pool_init_none(p);
	p->path = path;
	p->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->root < 0)
		return err_sys(e, "cgroup", errno, "%s", path);
	for (int i = 0; i < MADE_AT_START; i++)
		if (!make(p, i)) {
			int r = err_sys(e, "cgroup", errno, "cannot make a cgroup in %s", path);
			close_fd(&p->root);
			return r;
		}
	return 0;
}

/* An open control file from its beginning, NUL-terminated. */
static bool read_again(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);
	if (n < 0)
		return false;
	buf[n] = '\0';
	return true;
}

/* Reads a control file into buf, NUL-terminated. */
static bool read_control(int dir, const char *name, char *buf, size_t size)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read_again(fd, buf, size);
}

/* The number after "key " at the start of a line. */
static uint64_t control_value(const char *text, const char *key, uint64_t missing)
{
	size_t len = strlen(key);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return strtoull(line + len, NULL, 10);
	}
	return missing;
}

static bool is_empty(const struct cgroup_entry *c)
{
	char text[256];
	return read_control(c->dir, "cgroup.events", text, sizeof text) &&
	       control_value(text, "populated", 1) == 0;
}

static uint64_t oom_count(int dir)
{
	char text[256];
	return read_control(dir, "memory.events", text, sizeof text) ? control_value(text, "oom_kill", 0) : 0;
}

static void forget_oom(struct cgroup_entry *c)
{
	c->oom_before = c->oom_told = oom_count(c->dir);
}

int cgroup_take(struct cgroup_pool *p)
{
	if (p->root < 0)
		return -1;
	for (int i = 0; i < CGROUP_POOL; i++) {
		struct cgroup_entry *c = &p->entries[i];
		if (c->use == CGROUP_BUSY || (c->use == CGROUP_LEFT && !is_empty(c)))
			continue;
		if (c->dir < 0 && !make(p, i))
			return -1;
		if (c->use == CGROUP_LEFT)
			forget_oom(c); /* what was left has counted on */
		c->use = CGROUP_BUSY;
		return i;
	}
	return -1;
}

void cgroup_give_back(struct cgroup_pool *p, int cg)
{
	if (cg < 0)
		return;
	struct cgroup_entry *c = &p->entries[cg];
	c->use = is_empty(c) ? CGROUP_IDLE : CGROUP_LEFT;
	forget_oom(c);
}

int cgroup_dir(const struct cgroup_pool *p, int cg)
{
	return cg < 0 ? -1 : p->entries[cg].dir;
}

static int write_control(int dir, const char *name, const char *value)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static int signal_each(int dir, int signo)
{
	_cleanup_close_ int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int found = 0, pid = 0;
	char text[1024];
	ssize_t n;
	for (int chunk = 0; chunk < CHUNKS_MAX && (n = read(fd, text, sizeof text)) > 0; chunk++)
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] != '\n') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			found += pid > 1 && kill(pid, signo) == 0;
			pid = 0;
		}
	return found > 0 ? 0 : -ESRCH;
}

int cgroup_signal(const struct cgroup_pool *p, int cg, int signo)
{
	if (cg < 0)
		return -ESRCH;
	if (signo != SIGKILL)
		return signal_each(p->entries[cg].dir, signo);
	return write_control(p->entries[cg].dir, "cgroup.kill", "1");
}

uint64_t cgroup_oom_kills(const struct cgroup_pool *p, int cg)
{
	return cg < 0 ? 0 : oom_count(p->entries[cg].dir) - p->entries[cg].oom_before;
}

int cgroup_oom_news(struct cgroup_pool *p, uint64_t *kills)
{
	for (int i = 0; i < CGROUP_POOL; i++) {
		struct cgroup_entry *c = &p->entries[i];
		uint64_t now = c->dir < 0 || c->use == CGROUP_IDLE ? 0 : oom_count(c->dir);
		if (now <= c->oom_told)
			continue;
		c->oom_told = now;
		*kills = now - c->oom_before;
		return i;
	}
	return -1;
}

bool cgroup_holds(const struct cgroup_pool *p, const char *text)
{
	const char *path = p->path + strlen(MOUNTED_AT);
	size_t len = strlen(path);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "0::", 3) == 0)
			return strncmp(line + 3, path, len) == 0 && line[3 + len] == '/';
	}
	return false;
}

int cgroup_freeze(const struct cgroup_pool *p, bool freeze)
{
	return write_control(p->root, "cgroup.freeze", freeze ? "1" : "0");
}

int cgroup_open_events(const struct cgroup_pool *p, const char *name)
{
	int fd = openat(p->root, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool cgroup_is_frozen(int events)
{
	char text[256];
	return read_again(events, text, sizeof text) && control_value(text, "frozen", 0) == 1;
}

uint64_t cgroup_oom_total(int events)
{
	char text[256];
	return read_again(events, text, sizeof text) ? control_value(text, "oom_kill", 0) : 0;
}

void cgroup_kill_all(const struct cgroup_pool *p)
{
	write_control(p->root, "cgroup.kill", "1");
}
