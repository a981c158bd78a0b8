#include "guest/power/power.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/log.h"
#include "proto/cleanup.h"

#define GRACE_DEFAULT_MS 5000
#define KILL_DEADLINE (2 * NSEC_PER_SEC)
#define UNMOUNT_DEADLINE_MS 10000
#define TICK (10 * NSEC_PER_MSEC)

/* Everybody: PID 1 is not hit by its own kill(-1). On a plain host others live too, so only what was started
 * here. */
static void signal_everybody(struct power *p, int signo)
{
	workers_signal(signo);
	if (p->own_machine)
		kill(-1, signo);
	else
		execs_signal_all(p->execs, signo);
	/* At once, for a bomb that forks faster than a list of it is read. */
	if (signo == SIGKILL && cgroup_present(&p->execs->cgroups))
		cgroup_kill_all(&p->execs->cgroups);
}

static void switch_off(struct power *p)
{
	p->stage = POWER_OFF;
	if (!p->own_machine)
		return;
	log_line("power off");
	reboot(RB_POWER_OFF);
	log_line("power off failed: %s", strerror(errno));
	reboot(RB_HALT_SYSTEM);
}

static void unmounted(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	(void)fds;
	struct power *p = container_of(w, struct power, unmounter);
	if (r < 0)
		log_line("shutdown: %s", e->msg);
	switch_off(p);
}

/* The worker's: with the last descriptor of the box its mounts go, and no path had to be opened. They are its
 * to close last, since that is what blocks on a file system that hangs: the pipe ends when the agent has
 * closed. */
static int give_up_mounts(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	(void)e;
	struct power *p = arg;
	char nothing;
	(void)!read(p->last_fds[0], &nothing, 1);
	for (int i = 0; i < POWER_LAST_FDS; i++)
		close_fd(&p->last_fds[i]);
	sync();
	return 0;
}

static void begin_unmounting(struct power *p)
{
	_cleanup_close_ int agent_closes = -1;
	int pipe_fds[2] = {-1, -1};
	struct spawn_base *base = &p->execs->base;
	p->stage = POWER_UNMOUNTING;
	int r = pipe2(pipe_fds, O_CLOEXEC) < 0 ? -errno : 0;
	agent_closes = pipe_fds[1];
	if (r == 0) {
		int last[POWER_LAST_FDS] = {pipe_fds[0], base->pts_fd, p->box->upper_fd, base->ns_fd};
		memcpy(p->last_fds, last, sizeof last);
		r = worker_start(&p->unmounter, give_up_mounts, p, last, POWER_LAST_FDS, UNMOUNT_DEADLINE_MS);
		close_fd(&pipe_fds[0]);
	}
	if (r < 0) {
		log_line("shutdown: no worker to unmount: %s", strerror(-r));
		switch_off(p);
		return;
	}
	close_fd(&base->pts_fd);
	close_fd(&p->box->upper_fd);
	close_fd(&base->ns_fd);
}

/* Asked each time: the reaper learns of those that end, not of those that were started since. */
static bool is_childless(void)
{
	siginfo_t info;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

/* Nobody is left, and the host, if there is one, knows how everybody ended. */
static bool all_over(struct power *p)
{
	return is_childless() && !p->host_waits(p);
}

static void tick(struct timer *t)
{
	struct power *p = container_of(t, struct power, tick);
	uint64_t now = clock_mono();
	bool late = now >= p->deadline;
	if (p->stage == POWER_STOPPING && late && !is_childless()) {
		p->stage = POWER_KILLING;
		p->deadline = now + KILL_DEADLINE;
		signal_everybody(p, SIGKILL);
	} else if (late || all_over(p)) {
		begin_unmounting(p);
		return;
	}
	timer_set(p->loop, &p->tick, now + TICK);
}

void power_init(struct power *p)
{
	p->stage = POWER_ON;
	timer_init(&p->tick, tick);
	worker_init(&p->unmounter, p->loop, unmounted);
}

void power_shutdown(struct power *p, uint32_t grace_ms)
{
	if (p->stage != POWER_ON)
		return;
	log_line("shutting down");
	p->stage = POWER_STOPPING;
	uint64_t now = clock_mono();
	p->deadline = now + (grace_ms ? grace_ms : GRACE_DEFAULT_MS) * NSEC_PER_MSEC;
	box_stop(p->box);
	quiesce_stop(p->quiesce); /* TERM does not reach the frozen */
	signal_everybody(p, SIGTERM);
	timer_set(p->loop, &p->tick, now + TICK);
}
