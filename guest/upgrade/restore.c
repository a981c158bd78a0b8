#include "guest/upgrade/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/log.h"

int restore_find(int argc, char **argv, const char *option)
{
	if (argc < 3 || strcmp(argv[argc - 2], option) != 0)
		return -1;
	char *end;
	long fd = strtol(argv[argc - 1], &end, 10);
	return *end == '\0' && fd > 2 && fd < 65536 && handover_is_one((int)fd) ? (int)fd : -1;
}

static int test(int handover_fd, struct err *e)
{
	if (handover_fd < 0)
		return err_set(e, "handover", EBADF, "there is none");
	void *memory; /* ends with this process */
	const Tenon__Handover *h = handover_read(handover_fd, &memory, e);
	struct exec_table t;
	int r = h ? exec_table_adopt(&t, (int)h->arena_fd, false, e) : -EINVAL;
	return r < 0 ? r : handover_check(h, &t, e);
}

int restore_self_test(int handover_fd)
{
	struct err e;
	int r = test(handover_fd, &e);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", e.stage, e.msg);
	else
		fputs(HANDOVER_PASSED "\n", stderr);
	return r < 0;
}

static int fd_or_none(uint32_t fd)
{
	return fd > 0 ? (int)fd : -1;
}

void restore_cgroups(struct cgroup_pool *p, const Tenon__Handover *h)
{
	if (h->cgroup_fd == 0)
		return;
	cgroup_pool_adopt(p, (int)h->cgroup_fd);
	for (size_t i = 0; i < h->n_cgroups; i++) {
		const Tenon__HandoverCgroup *c = h->cgroups[i];
		int r = cgroup_adopt(p, (int)c->number, (enum cgroup_use)c->use, c->oom_kills, c->limited);
		if (r < 0)
			log_line("upgrade: cgroup %u: %s", c->number, strerror(-r));
	}
}

static int close_to_children(int fd, enum handover_fd kind, void *arg)
{
	(void)kind;
	(void)arg;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		log_line("upgrade: descriptor %d: %s", fd, strerror(errno));
	return 0;
}

bool restore_execs(struct execs *x, const Tenon__Handover *h)
{
	struct err e;
	int r = execs_adopt(x, (int)h->arena_fd, &e);
	if (r < 0)
		log_line("upgrade: the executions are lost: %s", e.msg);
	handover_each_fd(h, &x->table, close_to_children, NULL);
	return r == 0;
}

void restore_identity(struct identity *id, const Tenon__Handover *h)
{
	memcpy(id->boot_id, h->boot_id.data, BOOT_ID_SIZE);
	id->upgrades = h->upgrades;
	id->clone_generation = h->clone_generation;
	if (!h->boot)
		return;
	id->times = *h->boot;
	id->times.base.n_unknown_fields = 0;
}

void restore_box(struct box *b, const Tenon__Handover *h)
{
	const int fds[WORKER_FDS] = {
		[ROOT_NS] = fd_or_none(h->namespace_fd),
		[ROOT_PTS] = fd_or_none(h->terminals_fd),
		[ROOT_UPPER] = fd_or_none(h->upper_fd),
		[ROOT_UPPER + 1] = -1,
	};
	int r = h->configured ? box_adopt(b, h->env, h->n_env, fds) : 0;
	if (r < 0)
		log_line("upgrade: the box is not configured any more: %s", strerror(-r));
}

void restore_workers(const Tenon__Handover *h)
{
	for (size_t i = 0; i < h->n_workers; i++)
		if (h->workers[i] > 1)
			kill((pid_t)h->workers[i], SIGTERM);
}
