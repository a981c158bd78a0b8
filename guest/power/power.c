#include "guest/power/power.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/reboot.h>
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
	if (p->own_machine) {
		kill(-1, signo);
		return;
	}
	execs_signal_all(p->execs, signo);
	workers_signal(signo);
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

/* The worker's: with the last descriptor of the box's namespace its mounts go, and no path had to be opened.
 */
static int give_up_mounts(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	(void)e;
	struct power *p = arg;
	close_fd(&p->ns_fd);
	sync();
	return 0;
}

static void begin_unmounting(struct power *p)
{
	p->stage = POWER_UNMOUNTING;
	p->ns_fd = p->execs->base.ns_fd;
	int r = worker_start(&p->unmounter, give_up_mounts, p, &p->ns_fd, 1, UNMOUNT_DEADLINE_MS);
	close_fd(&p->execs->base.ns_fd);
	if (r == 0)
		return;
	log_line("shutdown: no worker to unmount: %s", strerror(-r));
	switch_off(p);
}

/* Nobody is left, and the host, if there is one, knows how everybody ended. */
static bool all_over(struct power *p)
{
	return p->childless && !p->host_waits(p);
}

static void tick(struct timer *t)
{
	struct power *p = container_of(t, struct power, tick);
	uint64_t now = clock_mono();
	bool late = now >= p->deadline;
	if (p->stage == POWER_STOPPING && late && !p->childless) {
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
	signal_everybody(p, SIGTERM);
	timer_set(p->loop, &p->tick, now + TICK);
}
