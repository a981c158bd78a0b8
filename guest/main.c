/* tenon-init: PID 1 of a micro-VM, or the same agent beside others on a plain host. Wiring only. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/boot/doorbell.h"
#include "guest/boot/identity.h"
#include "guest/boot/machine.h"
#include "guest/boot/modules.h"
#include "guest/link/link.h"
#include "guest/link/listener.h"
#include "guest/log.h"
#include "guest/power/watch.h"
#include "guest/reaper.h"
#include "guest/upgrade/restore.h"
#include "guest/upgrade/upgrade.h"

#define FILES_WANTED 16384    /* 4 descriptors for each of 1,024 executions, their cgroups, and some */
#define CHILD_FILES_SOFT 1024 /* what programs have come to expect; select(2) breaks above */
#define CHILD_FILES_HARD 524288

static struct agent {
	struct identity identity;
	struct loop loop;
	struct execs execs;
	struct box box;
	struct power power;
	struct quiesce quiesce;
	struct watch watch;
	struct bulk_pool bulk;
	struct reaper reaper;
	struct link link;
	struct listener listener;
	struct doorbell doorbell;
	struct upgrade upgrade;
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

static void use_upper(struct agent *a)
{
	a->bulk.context.upper_fd = a->box.upper_fd;
	watch_disk(&a->watch);
}

static void on_configured(struct box *b, const struct fault *f)
{
	struct agent *a = container_of(b, struct agent, box);
	link_answer(&a->link, LINK_CONFIGURE, f);
	if (f)
		return;
	use_upper(a);
}

static void on_quiesced(struct quiesce *q, const struct fault *f)
{
	link_answer(&container_of(q, struct agent, quiesce)->link, LINK_QUIESCE, f);
}

static void on_resumed(struct quiesce *q, const struct fault *f)
{
	link_answer(&container_of(q, struct agent, quiesce)->link, LINK_RESUME, f);
}

static void on_thawed_itself(struct quiesce *q)
{
	Tenon__Thawed thawed = TENON__THAWED__INIT;
	Tenon__Event event = TENON__EVENT__INIT;
	event.kind_case = TENON__EVENT__KIND_THAWED;
	event.thawed = &thawed;
	link_tell(&container_of(q, struct agent, quiesce)->link, &event);
}

static void on_news_of_the_machine(struct watch *w, const Tenon__Event *event)
{
	link_tell(&container_of(w, struct agent, watch)->link, event);
}

static void on_offered(struct worker *w, int fds[WORKER_FDS])
{
	(void)w;
	upgrade_begin(&agent.upgrade, fds[0], fds[1]);
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

/* What the program before us left cannot be understood, although it had been tested: this is a new boot then.
 */
static void start_over(struct agent *a, const struct err *e)
{
	log_line("upgrade: %s; starting over", e->msg);
	syscall(SYS_close_range, 3, ~0U, 0);
	if (a->own_machine)
		kill(-1, SIGKILL);
}

static void restore(struct agent *a, const Tenon__Handover *h)
{
	log_line("upgrade: %s goes on", AGENT_VERSION);
	restore_cgroups(&a->execs.cgroups, h);
	if (restore_execs(&a->execs, h))
		restore_identity(&a->identity, h);
	restore_box(&a->box, h);
	use_upper(a);
	restore_workers(h);
	a->link.epoch = h->host_epoch;
	a->execs.base.nofile = (struct rlimit){h->nofile_soft, h->nofile_hard};
	if (h->listener_fd > 0)
		listener_adopt(&a->listener, (int)h->listener_fd);
	else
		listener_start(&a->listener);
	reaper_run(&a->reaper); /* who ended meanwhile */
}

/* left: the handover's descriptor, or -1. */
static int start(struct agent *a, const char *listen_on, int left, struct err *e)
{
	void *memory = NULL;
	const Tenon__Handover *h = left >= 0 ? handover_read(left, &memory, e) : NULL;
	umask(022);
	cgroup_pool_init_none(&a->execs.cgroups);
	a->execs.base = (struct spawn_base){.ns_fd = -1, .pts_fd = -1, .null_fd = -1};
	if (!a->own_machine || left >= 0) /* else there is nothing to write to yet */
		log_init(a->own_machine);
	if (left >= 0 && !h)
		start_over(a, e);
	if (a->own_machine && !h)
		start_machine(a);
	else if (!a->own_machine)
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	set_limits(a);
	confine_look(&a->execs.base.own);
	a->execs.base.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

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
				  .box = &a->box,
				  .quiesce = &a->quiesce,
				  .own_machine = a->own_machine,
				  .host_waits = host_waits};
	a->upgrade = (struct upgrade){.loop = &a->loop,
				      .identity = &a->identity,
				      .execs = &a->execs,
				      .box = &a->box,
				      .power = &a->power,
				      .link = &a->link,
				      .listener = &a->listener,
				      .listen_on = listen_on};
	a->quiesce.loop = &a->loop;
	a->quiesce.execs = &a->execs;
	a->quiesce.identity = &a->identity;
	a->quiesce.upper_fd = &a->box.upper_fd;
	a->quiesce.own_machine = a->own_machine;
	a->quiesce.quiesced = on_quiesced;
	a->quiesce.resumed = on_resumed;
	a->quiesce.thawed_itself = on_thawed_itself;
	a->watch = (struct watch){.loop = &a->loop,
				  .execs = &a->execs,
				  .upper_fd = &a->box.upper_fd,
				  .tell = on_news_of_the_machine};
	a->bulk.loop = &a->loop;
	a->bulk.offered = on_offered;
	a->bulk.context = (struct bulk_context){
		.execs = &a->execs, .identity = &a->identity, .upper_fd = -1, .own_machine = a->own_machine};
	a->reaper = (struct reaper){.execs = &a->execs, .power = &a->power, .upgrade = &a->upgrade};
	a->link.loop = &a->loop;
	a->link.identity = &a->identity;
	a->link.execs = &a->execs;
	a->link.box = &a->box;
	a->link.power = &a->power;
	a->link.quiesce = &a->quiesce;
	a->link.bulk = &a->bulk;
	a->doorbell = (struct doorbell){.loop = &a->loop, .identity = &a->identity};
	a->listener.loop = &a->loop;
	a->listener.accepted = on_accepted;
	a->listener.listening = on_listening;

	power_init(&a->power);
	quiesce_init(&a->quiesce);
	watch_init(&a->watch);
	upgrade_init(&a->upgrade);
	r = execs_init(&a->execs, &a->loop, &a->link.streams.watch, e);
	if (r == 0)
		r = box_init(&a->box, e);
	if (r == 0)
		r = link_init(&a->link, e);
	if (r == 0)
		r = reaper_init(&a->reaper, &a->loop, e);
	if (r == 0 && h)
		restore(a, h);
	else if (r == 0)
		listener_start(&a->listener);
	watch_oom(&a->watch);
	if (h)
		close(left);
	if (memory)
		munmap(memory, HANDOVER_MEMORY);
	return r;
}

static void serve(struct agent *a)
{
	bool busy = false;
	while (a->own_machine || a->power.stage != POWER_OFF) {
		loop_turn(&a->loop, busy);
		busy = link_turn(&a->link);
		busy |= upgrade_turn(&a->upgrade); /* when the link has sent what it can */
	}
}

static const char *parse_arguments(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts(AGENT_VERSION);
		exit(0);
	}
	if (argc == 3 && strcmp(argv[1], "--self-test") == 0)
		exit(restore_self_test(restore_find(argc, argv, "--self-test")));
	bool upgraded = argc == 5 && restore_find(argc, argv, "--upgraded") >= 0;
	if ((argc == 3 || upgraded) && strcmp(argv[1], "--listen") == 0)
		return argv[2];
	fputs("usage: tenon-init --listen unix:PATH|vsock:PORT\n       tenon-init --version\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	struct agent *a = &agent;
	struct err e = {.msg = ""};
	prctl(PR_SET_NAME, "tenon-init"); /* after an upgrade it is the number of a descriptor */
	identity_init(&a->identity);
	a->own_machine = getpid() == 1;
	/* PID 1's arguments are what the kernel did not understand of its command line: none of ours. */
	const char *listen_on = a->own_machine ? "vsock:1000" : parse_arguments(argc, argv);
	if (start(a, listen_on, restore_find(argc, argv, "--upgraded"), &e) == 0)
		serve(a);
	else
		log_line("cannot start: %s", e.msg);
	while (a->own_machine)
		pause(); /* without us the kernel panics; like this its console can still be read */
	return a->power.stage == POWER_OFF ? 0 : 1;
}
