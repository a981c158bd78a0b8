#include "guest/exec/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/scan.h"
#include "proto/cleanup.h"

#define MADE_AT_START 4
#define CHUNKS_MAX 512 /* bound on one pass over cgroup.procs */

void cgroup_pool_init_none(struct cgroup_pool *p)
{
	p->root = -1;
	for (int i = 0; i < CGROUP_POOL; i++)
		p->entries[i] = (struct cgroup_entry){.dir = -1};
}

#define ENTRY "e" /* and its number: the name of each */
#define NAME_SIZE 16

static void put_name(char name[NAME_SIZE], int cg)
{
	snprintf(name, NAME_SIZE, ENTRY "%d", cg);
}

static bool make(struct cgroup_pool *p, int cg)
{
	char name[NAME_SIZE];
	put_name(name, cg);
	if (mkdirat(p->root, name, 0755) < 0 && errno != EEXIST)
		return false;
	p->entries[cg] =
		(struct cgroup_entry){.dir = openat(p->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	return p->entries[cg].dir >= 0;
}

int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e)
{
	cgroup_pool_init_none(p);
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

static bool is_empty(const struct cgroup_entry *c)
{
	char text[256];
	return scan_file(c->dir, "cgroup.events", text, sizeof text) > 0 &&
	       scan_value(text, "populated ", 1) == 0;
}

/* Nobody is in it: what it has counted so far is its past. */
static void settle(struct cgroup_pool *p, int cg)
{
	cgroup_oom_killed(p, cg);
	usage_read(p->entries[cg].dir, &p->entries[cg].base);
	p->entries[cg].used = true;
	p->entries[cg].use = CGROUP_IDLE;
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
			settle(p, i);
		c->use = CGROUP_BUSY;
		return i;
	}
	return -1;
}

void cgroup_give_back(struct cgroup_pool *p, int cg)
{
	if (cg < 0)
		return;
	if (is_empty(&p->entries[cg]))
		settle(p, cg);
	else
		p->entries[cg].use = CGROUP_LEFT;
}

bool cgroup_renew(struct cgroup_pool *p)
{
	for (int i = 0; i < CGROUP_POOL; i++) {
		struct cgroup_entry *c = &p->entries[i];
		if (c->use == CGROUP_LEFT && is_empty(c))
			settle(p, i);
		if (c->use != CGROUP_IDLE || !c->used)
			continue;
		char name[NAME_SIZE];
		put_name(name, i);
		c->used = false; /* or somebody in the box keeps a cgroup of his own in it: it serves on as it
				    is */
		if (unlinkat(p->root, name, AT_REMOVEDIR) < 0)
			continue;
		close_fd(&c->dir);
		if (i < MADE_AT_START)
			make(p, i);
		return true;
	}
	return false;
}

int cgroup_dir(const struct cgroup_pool *p, int cg)
{
	return cg < 0 ? -1 : p->entries[cg].dir;
}

int cgroup_open(const struct cgroup_pool *p, int cg)
{
	char name[NAME_SIZE];
	put_name(name, cg);
	return p->root < 0 ? -1 : openat(p->root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_parse(const char *text)
{
	const char *p =
		scan_after(text, "0::" CGROUP_BOX "/" ENTRY); /* 0: the unified hierarchy, cgroups(7) */
	if (!p || *p < '0' || *p > '9')
		return -1;
	uint64_t cg = scan_number(&p);
	/* A process that has ended may be in one that is "(deleted)". */
	return cg < CGROUP_POOL && (*p == '/' || *p == '\n' || *p == '\0' || *p == ' ') ? (int)cg : -1;
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
	_cleanup_close_ int fd = openat(p->entries[cg].dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, "1", 1) < 0 ? -errno : 0;
}

bool cgroup_oom_killed(struct cgroup_pool *p, int cg)
{
	char text[256];
	if (cg < 0 || scan_file(p->entries[cg].dir, "memory.events", text, sizeof text) < 0)
		return false;
	uint64_t now = scan_value(text, "oom_kill ", 0), before = p->entries[cg].oom_kills;
	p->entries[cg].oom_kills = now;
	return now > before;
}
