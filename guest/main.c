/* tenon-init: PID 1 of a micro-VM, or the same agent beside others on a plain host. Wiring only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/boot/doorbell.h"
#include "guest/boot/identity.h"
#include "guest/boot/machine.h"
#include "guest/boot/modules.h"
#include "guest/link/link.h"
#include "guest/link/listener.h"
#include "guest/log.h"
#include "guest/reaper.h"

#define FILES_WANTED 16384    /* 4 descriptors for each of 1,024 executions, their cgroups, and some */
#define CHILD_FILES_SOFT 1024 /* what programs have come to expect; select(2) breaks above */
#define CHILD_FILES_HARD 524288

static struct agent {
	struct identity identity;
	struct loop loop;
	struct execs execs;
	struct box box;
	struct power power;
	struct reaper reaper;
	struct link link;
	struct listener listener;
	struct doorbell doorbell;
	bool own_machine; /* we are PID 1 */
} agent;

static void on_accepted(struct listener *l, int fd)
{
	link_accept(&container_of(l, struct agent, listener)->link, fd);
}

static void on_listening(struct listener *l)
{
	struct agent *a = container_of(l, struct agent, listener);
	a->identity.times.listening_ns = identity_now();
	if (a->own_machine)
		doorbell_ring(&a->doorbell);
}

static void on_configured(struct box *b, const struct fault *f)
{
	link_configured(&container_of(b, struct agent, box)->link, f);
}

static bool host_waits(struct power *p)
{
	struct agent *a = container_of(p, struct agent, power);
	return a->link.main && (execs_pending(&a->execs) || !link_idle(&a->link));
}

/* Our own limit as high as it goes; children get what they would have had without us. */
static void set_limits(struct agent *a)
{
	struct rlimit now = {CHILD_FILES_SOFT, CHILD_FILES_HARD};
	getrlimit(RLIMIT_NOFILE, &now);
	a->execs.base.nofile = now;
	if (a->own_machine)
		a->execs.base.nofile = (struct rlimit){CHILD_FILES_SOFT, CHILD_FILES_HARD};
	if (a->own_machine && now.rlim_max < CHILD_FILES_HARD)
		now.rlim_max = CHILD_FILES_HARD;
	now.rlim_cur = now.rlim_max < FILES_WANTED ? now.rlim_max : FILES_WANTED;
	setrlimit(RLIMIT_NOFILE, &now);
}

static void start_machine(struct agent *a)
{
	struct err e;
	machine_prepare();
	machine_take_ctrl_alt_del();
	if (modules_load("/modules/boot.list", &e) < 0)
		log_line("boot: %s", e.msg);
	const char *cgroups = machine_make_cgroups();
	if (!cgroups || cgroup_pool_init(&a->execs.cgroups, cgroups, &e) < 0)
		log_line("boot: executions have no cgroups");
	a->identity.times.mounted_ns = identity_now();
}

static int start(struct agent *a, const char *listen_on, struct err *e)
{
	umask(022);
	cgroup_pool_init_none(&a->execs.cgroups);
	a->execs.base = (struct spawn_base){.ns_fd = -1, .pts_fd = -1};
	if (a->own_machine) {
		start_machine(a);
	} else {
		log_init(0);
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	}
	set_limits(a);

	int r = listener_parse(&a->listener, listen_on, e);
	if (r == 0)
		r = loop_init(&a->loop, e);
	if (r < 0)
		return r;
	a->box = (struct box){.loop = &a->loop,
			      .base = &a->execs.base,
			      .identity = &a->identity,
			      .own_machine = a->own_machine,
			      .done = on_configured};
	a->power = (struct power){.loop = &a->loop,
				  .execs = &a->execs,
				  .own_machine = a->own_machine,
				  .host_waits = host_waits};
	a->reaper = (struct reaper){
		.execs = &a->execs, .power = &a->power, .workers = {&a->box.worker, &a->power.unmounter}};
	a->link.loop = &a->loop;
	a->link.identity = &a->identity;
	a->link.execs = &a->execs;
	a->link.box = &a->box;
	a->link.power = &a->power;
	a->doorbell = (struct doorbell){.loop = &a->loop, .identity = &a->identity};
	a->listener.loop = &a->loop;
	a->listener.accepted = on_accepted;
	a->listener.listening = on_listening;

	power_init(&a->power);
	r = execs_init(&a->execs, &a->loop, &a->link.streams.watch, e);
	if (r == 0)
		r = box_init(&a->box, e);
	if (r == 0)
		r = link_init(&a->link, e);
	if (r == 0)
		r = reaper_init(&a->reaper, &a->loop, e);
	if (r == 0)
		listener_start(&a->listener);
	return r;
}

static void serve(struct agent *a)
{
	bool busy = false;
	while (a->own_machine || a->power.stage != POWER_OFF) {
		loop_turn(&a->loop, busy);
		busy = link_turn(&a->link);
	}
}

static const char *parse_arguments(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts(AGENT_VERSION);
		exit(0);
	}
	if (argc == 3 && strcmp(argv[1], "--listen") == 0)
		return argv[2];
	fputs("usage: tenon-init --listen unix:PATH|vsock:PORT\n       tenon-init --version\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	struct agent *a = &agent;
	struct err e = {.msg = ""};
	identity_init(&a->identity);
	a->own_machine = getpid() == 1;
	/* PID 1's arguments are what the kernel did not understand of its command line: none of ours. */
	const char *listen_on = a->own_machine ? "vsock:1000" : parse_arguments(argc, argv);
	if (start(a, listen_on, &e) == 0)
		serve(a);
	else
		log_line("cannot start: %s", e.msg);
	while (a->own_machine)
		pause(); /* without us the kernel panics; like this its console can still be read */
	return a->power.stage == POWER_OFF ? 0 : 1;
}
