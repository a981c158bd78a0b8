#include "guest/upgrade/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/bulk/pool.h"
#include "guest/log.h"
#include "guest/upgrade/handover.h"
#include "proto/cleanup.h"

#define TEST_DEADLINE (5 * NSEC_PER_SEC)
#define PAUSE_MAX NSEC_PER_SEC              /* nothing new begins meanwhile */
#define SETTLE_DEADLINE (10 * NSEC_PER_SEC) /* after that, for a moment in which nothing happens to begin */
#define SCRATCH (512 * 1024)                /* of what handover_write packs, its strings not included */

/* ---- what is handed over ---- */

static uint32_t or_none(int fd)
{
	return fd > 0 ? (uint32_t)fd : 0;
}

static void list_env(const struct box *b, Tenon__Handover *h, struct bump *scratch)
{
	h->env = bump_alloc(scratch, b->n_env * sizeof *h->env);
	for (h->n_env = 0; h->n_env < b->n_env; h->n_env++) {
		char *s = b->env[h->n_env];
		h->env[h->n_env] = (ProtobufCBinaryData){strlen(s), (uint8_t *)s};
	}
}

static void list_cgroups(const struct cgroup_pool *p, Tenon__Handover *h, struct bump *scratch)
{
	h->cgroups = bump_alloc(scratch, CGROUP_POOL * sizeof *h->cgroups);
	for (int i = 0; i < CGROUP_POOL && p->root >= 0; i++) {
		const struct cgroup_entry *c = &p->entries[i];
		if (!c->made)
			continue;
		Tenon__HandoverCgroup *m = h->cgroups[h->n_cgroups++] = bump_alloc(scratch, sizeof *m);
		*m = (Tenon__HandoverCgroup)TENON__HANDOVER_CGROUP__INIT;
		m->number = (uint32_t)i;
		m->use = (Tenon__HandoverCgroupUse)c->use;
		m->oom_kills = c->oom_before;
		m->limited = c->limited;
	}
}

/* arena_fd: the arena itself, or a copy to be looked at. */
static void fill(const struct upgrade *u, Tenon__Handover *h, int arena_fd, struct bump *scratch)
{
	const struct spawn_base *base = &u->execs->base;
	*h = (Tenon__Handover)TENON__HANDOVER__INIT;
	h->boot_id = (ProtobufCBinaryData){BOOT_ID_SIZE, u->identity->boot_id};
	h->boot = &u->identity->times;
	h->upgrades = u->identity->upgrades + 1;
	h->host_epoch = u->link->epoch;
	h->arena_fd = or_none(arena_fd);
	h->listener_fd = or_none(u->listener->fd);
	h->namespace_fd = or_none(base->ns_fd);
	h->terminals_fd = or_none(base->pts_fd);
	h->upper_fd = or_none(u->box->upper_fd);
	h->clone_generation = u->identity->clone_generation;
	h->cgroup_fd = or_none(u->execs->cgroups.root);
	h->configured = u->box->configured;
	h->nofile_soft = base->nofile.rlim_cur;
	h->nofile_hard = base->nofile.rlim_max;
	if (u->box->configured)
		list_env(u->box, h, scratch);
	list_cgroups(&u->execs->cgroups, h, scratch);
	h->workers = bump_alloc(scratch, BULK_MAX * sizeof *h->workers);
	h->n_workers = workers_list(h->workers, BULK_MAX);
}

/* Fills *h in a reservation, to be given up with munmap(*scratch, SCRATCH), and writes it. Its memfd, or
 * -errno. */
static int write_down(const struct upgrade *u, Tenon__Handover *h, int arena_fd, void **scratch,
		      struct err *e)
{
	*scratch = memory_reserve(SCRATCH);
	if (!*scratch)
		return err_sys(e, "handover", ENOMEM, "no memory");
	struct bump b;
	bump_init(&b, *scratch, SCRATCH);
	fill(u, h, arena_fd, &b);
	int fd = handover_write(h, e);
	if (fd < 0)
		munmap(*scratch, SCRATCH);
	return fd;
}

static int keep_over_exec(int fd, enum handover_fd kind, void *arg)
{
	(void)kind;
	return fcntl(fd, F_SETFD, *(const bool *)arg ? 0 : FD_CLOEXEC) < 0 ? -errno : 0;
}

static int set_kept(const struct upgrade *u, const Tenon__Handover *h, int handover_fd, bool kept)
{
	int r = handover_each_fd(h, &u->execs->table, keep_over_exec, &kept);
	return r < 0 ? r : keep_over_exec(handover_fd, HANDOVER_FD_OTHER, &kept);
}

/* Returns only if it failed, with errno. */
static void become(int binary_fd, char *const *argv)
{
	syscall(SYS_execveat, binary_fd, "", argv, environ, AT_EMPTY_PATH);
}

/* ---- the end of an attempt ---- */

static void tell(int reply_fd, bool go, const struct fault *f)
{
	struct upgrade_verdict v = {.go = go};
	if (f)
		v.fault = *f;
	send(reply_fd, &v, sizeof v, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void resume(struct upgrade *u)
{
	if (u->paused)
		listener_resume(u->listener);
	u->paused = u->link->paused = false;
}

static void give_up(struct upgrade *u, const struct fault *f)
{
	log_line("upgrade: given up: %s: %s", f->err.stage, f->err.msg);
	tell(u->reply_fd, false, f);
	timer_clear(&u->deadline);
	close_fd(&u->binary_fd);
	close_fd(&u->reply_fd);
	resume(u);
	u->stage = UPGRADE_NONE;
}

static void give_up_for(struct upgrade *u, Tenon__Code code, const char *stage, int errnum, const char *why)
{
	struct fault f = {.code = code};
	err_set(&f.err, stage, errnum, "%s", why);
	give_up(u, &f);
}

static void give_up_with(struct upgrade *u, const struct err *e)
{
	give_up(u, &(struct fault){.code = TENON__CODE__CODE_INTERNAL, .err = *e});
}

/* ---- the new program is tried ---- */

/* Keeps the last line, or its beginning. */
static void hear(struct upgrade *u, const char *text, ssize_t n)
{
	for (ssize_t i = 0; i < n; i++) {
		if (u->line_over) {
			u->line_over = false;
			u->line_len = 0;
		}
		if (text[i] == '\n')
			u->line_over = u->line_len > 0;
		else if (u->line_len < sizeof u->line - 1)
			u->line[u->line_len++] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
	}
	u->line[u->line_len] = '\0';
}

static void on_said(struct source *s, uint32_t events)
{
	(void)events;
	struct upgrade *u = container_of(s, struct upgrade, said);
	char text[4096];
	ssize_t n = read(s->fd, text, sizeof text);
	hear(u, text, n);
	if (n == 0) {
		int fd = s->fd;
		loop_remove(u->loop, s);
		close(fd);
	}
}

/* What is still in the pipe; whoever holds its other end is not waited for. */
static void stop_listening(struct upgrade *u)
{
	for (int i = 0; i < 16 && u->said.fd >= 0; i++)
		on_said(&u->said, 0);
	int fd = u->said.fd;
	loop_remove(u->loop, &u->said);
	close_fd(&fd);
}

/* In the child. */
static void test_in_child(struct upgrade *u, int handover_fd, int said_fd)
{
	char number[16];
	snprintf(number, sizeof number, "%d", handover_fd);
	char *const argv[] = {"tenon-init", "--self-test", number, NULL};
	dup2(said_fd, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	become(u->binary_fd, argv);
	dprintf(STDERR_FILENO, "cannot execute it: %s\n", strerror(errno));
	_exit(127);
}

static int start_test(struct upgrade *u, struct err *e)
{
	/* Of a copy: ours goes on changing, and between two events only is it in order. */
	_cleanup_close_ int rows = exec_table_snapshot(&u->execs->table, e);
	if (rows < 0)
		return rows;
	Tenon__Handover h;
	void *scratch;
	_cleanup_close_ int handover = write_down(u, &h, rows, &scratch, e);
	if (handover < 0)
		return handover;
	int said[2], r = 0;
	if (pipe2(said, O_CLOEXEC) < 0) {
		r = err_sys(e, "self-test", errno, "no descriptors");
	} else {
		_cleanup_close_ int theirs = said[1], ours = said[0];
		fcntl(ours, F_SETFL, O_NONBLOCK);
		u->line_len = 0;
		u->line_over = false;
		/* Set here and not in the child, in which the rows change under its hands. */
		set_kept(u, &h, handover, true);
		u->tester = fork();
		if (u->tester == 0)
			test_in_child(u, handover, theirs);
		int errnum = errno;
		set_kept(u, &h, handover, false);
		if (u->tester < 0)
			r = err_sys(e, "self-test", errnum, "cannot fork");
		else if (loop_add(u->loop, &u->said, ours, EPOLLIN) == 0)
			steal_fd(&ours);
	}
	munmap(scratch, SCRATCH);
	return r;
}

static void settle(struct upgrade *u)
{
	u->stage = UPGRADE_SETTLING;
	u->paused = u->link->paused = true;
	listener_pause(u->listener);
	timer_set(u->loop, &u->deadline, clock_mono() + PAUSE_MAX);
}

bool upgrade_reaped(struct upgrade *u, pid_t pid, int status)
{
	if (u->stage != UPGRADE_TESTING || pid != u->tester)
		return false;
	bool late = !u->deadline.next;
	u->tester = 0;
	timer_clear(&u->deadline);
	stop_listening(u);
	if (late)
		give_up_for(u, TENON__CODE__CODE_TIMEOUT, "self-test", ETIMEDOUT,
			    "the new program did not finish its test in time");
	else if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0 || strcmp(u->line, HANDOVER_PASSED) != 0)
		give_up_for(u, TENON__CODE__CODE_INTERNAL, "self-test", EINVAL,
			    u->line[0] ? u->line : "the new program failed without a word");
	else
		settle(u);
	return true;
}

/* ---- the change ---- */

/* Returns only if it failed, everything being as it was. */
static void change(struct upgrade *u, struct err *e)
{
	Tenon__Handover h;
	void *scratch;
	_cleanup_close_ int handover = write_down(u, &h, u->execs->table.memfd, &scratch, e);
	if (handover < 0)
		return;
	char number[16];
	snprintf(number, sizeof number, "%d", handover);
	char *const argv[] = {"tenon-init", "--listen", (char *)u->listen_on, "--upgraded", number, NULL};
	int r = set_kept(u, &h, handover, true);
	if (r == 0) {
		log_line("upgrade: to the program that has passed its test");
		tell(u->reply_fd, true, NULL);
		become(u->binary_fd, argv);
		r = -errno;
	}
	err_sys(e, "execve", -r, "the new program does not start");
	set_kept(u, &h, handover, false);
	munmap(scratch, SCRATCH);
}

/* True if it cannot be now, and has been given up. */
static bool hindered(struct upgrade *u)
{
	if (power_shutting_down(u->power))
		give_up_for(u, TENON__CODE__CODE_SHUTTING_DOWN, "upgrade", ECANCELED, "the VM is going down");
	else if (u->power->quiesce->stage != QUIESCE_OFF)
		give_up_for(u, TENON__CODE__CODE_FROZEN, "upgrade", EBUSY, "Resume comes first");
	else
		return false;
	return true;
}

bool upgrade_turn(struct upgrade *u)
{
	if (u->stage != UPGRADE_SETTLING)
		return false;
	if (hindered(u))
		return true;
	if (execs_share_memory(u->execs) || !workers_stand_alone())
		return false;
	struct err e;
	change(u, &e);
	give_up_with(u, &e);
	return true;
}

static void on_deadline(struct timer *t)
{
	struct upgrade *u = container_of(t, struct upgrade, deadline);
	if (u->stage == UPGRADE_TESTING) {
		kill(u->tester, SIGKILL); /* the reap tells the rest */
	} else if (u->paused) {
		resume(u); /* what hangs may hang on; others are not to wait for it */
		timer_set(u->loop, t, clock_mono() + SETTLE_DEADLINE);
	} else {
		give_up_for(u, TENON__CODE__CODE_TIMEOUT, "upgrade", EBUSY,
			    "a program that is being started, or a worker, did not get ready");
	}
}

void upgrade_init(struct upgrade *u)
{
	u->stage = UPGRADE_NONE;
	u->binary_fd = u->reply_fd = -1;
	u->said = (struct source){-1, on_said};
	timer_init(&u->deadline, on_deadline);
}

void upgrade_begin(struct upgrade *u, int binary_fd, int reply_fd)
{
	struct err e;
	if (u->stage != UPGRADE_NONE) {
		struct fault f = {.code = TENON__CODE__CODE_RESOURCE_EXHAUSTED};
		err_set(&f.err, "upgrade", EBUSY, "another one is under way");
		tell(reply_fd, false, &f);
		close(binary_fd);
		close(reply_fd);
		return;
	}
	u->binary_fd = binary_fd;
	u->reply_fd = reply_fd;
	if (hindered(u))
		return;
	/* What was tested is what will run, whatever the box's root does below /proc/1/fd. */
	if (fcntl(binary_fd, F_ADD_SEALS, HANDOVER_SEALS) < 0)
		err_sys(&e, "upgrade", errno, "the program cannot be sealed");
	else if (start_test(u, &e) == 0) {
		u->stage = UPGRADE_TESTING;
		timer_set(u->loop, &u->deadline, clock_mono() + TEST_DEADLINE);
		return;
	}
	give_up_with(u, &e);
}
