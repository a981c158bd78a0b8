#include "guest/power/quiesce.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/boot/modules.h"
#include "guest/log.h"
#include "guest/net/apply.h"
#include "proto/cleanup.h"

#define PATIENCE_DEFAULT_MS 600000
#define TICK (10 * NSEC_PER_MSEC)

/* ---- in workers ---- */

static int drop_caches(struct err *e)
{
	_cleanup_close_ int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "3", 1) < 0)
		return err_sys(e, "drop_caches", errno, "the caches stay");
	return 0;
}

static int write_out(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	const struct quiesce *q = arg;
	sync();
	if (q->fs >= 0 && ioctl(q->fs, FIFREEZE, 0) < 0 && errno != EBUSY)
		return err_sys(e, "fifreeze", errno, "the writable file system");
	return q->keep_caches ? 0 : drop_caches(e);
}

static int thaw(const struct quiesce *q, struct err *e)
{
	/* A writer that was killed may still be inside FIFREEZE: thawed before it is through, the file system
	 * would be left frozen. */
	struct pollfd p = {.fd = q->writer_end, .events = POLLIN};
	if (q->writer_end >= 0)
		poll(&p, 1, -1);
	if (q->fs >= 0 && ioctl(q->fs, FITHAW, 0) < 0 && errno != EINVAL)
		return err_sys(e, "fithaw", errno, "the writable file system");
	return 0;
}

static int thaw_alone(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	return thaw(arg, e);
}

static int resume(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	const struct quiesce *q = arg;
	int r = 0;
	if (q->net.n_interfaces > 0) {
		r = modules_load("/modules/net.list", e);
		if (r == 0)
			r = net_apply(&q->net, e);
	}
	return r < 0 ? r : thaw(q, e);
}

static int start_thawer(struct quiesce *q, int (*work)(void *, int[WORKER_FDS], struct err *), unsigned ms)
{
	q->fs = *q->upper_fd;
	int keep[] = {q->fs, q->writer_end};
	return worker_start(&q->thawer, work, q, keep, 2, ms);
}

/* ---- giving up, and thawing without being asked ---- */

static void stop_waiting(struct quiesce *q)
{
	timer_clear(&q->starts);
	timer_clear(&q->deadline);
	loop_remove(q->loop, &q->events);
	close_fd(&q->events_fd);
}

/* The workload goes on at once; the file system follows as soon as it can be, and until then its writers wait
 * in the kernel. */
static void let_go(struct quiesce *q)
{
	stop_waiting(q);
	timer_clear(&q->patience);
	worker_stop(&q->thawer);
	cgroup_freeze(&q->execs->cgroups, false);
	bool untouched = q->stage == QUIESCE_STARTS || q->stage == QUIESCE_FREEZING;
	worker_stop(&q->writer);
	q->froze = false;
	q->stage = untouched ? QUIESCE_OFF : QUIESCE_THAWING;
	int r = untouched ? 0 : start_thawer(q, thaw_alone, 0);
	if (r == 0)
		return;
	log_line("quiesce: no worker to thaw with: %s", strerror(-r));
	timer_set(q->loop, &q->patience, clock_mono() + NSEC_PER_SEC);
}

static void fail(struct quiesce *q, Tenon__Code code, const struct err *e)
{
	struct fault f = {.code = code, .err = *e};
	log_line("quiesce: %s: %s", e->stage, e->msg);
	let_go(q);
	q->quiesced(q, &f);
}

static void fail_late(struct quiesce *q, const char *stage, const char *why)
{
	struct err e;
	err_set(&e, stage, ETIMEDOUT, "%s", why);
	fail(q, TENON__CODE__CODE_TIMEOUT, &e);
}

static void out_of_patience(struct timer *t)
{
	struct quiesce *q = container_of(t, struct quiesce, patience);
	switch (q->stage) {
	case QUIESCE_OFF:
	case QUIESCE_RESUMING: /* which looks whether we have been here */
		return;
	case QUIESCE_THAWING: /* for want of a worker */
		let_go(q);
		return;
	case QUIESCE_HOLDS:
		log_line("quiesce: no host has resumed it: thawing");
		let_go(q);
		q->thawed_itself(q);
		return;
	default:
		fail_late(q, "quiesce", "it was not through within max_frozen_ms");
	}
}

/* ---- freezing, step by step ---- */

static void written(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	(void)fds;
	struct quiesce *q = container_of(w, struct quiesce, writer);
	if (r < 0) {
		fail(q, r == -ETIMEDOUT ? TENON__CODE__CODE_TIMEOUT : TENON__CODE__CODE_INTERNAL, e);
		return;
	}
	q->stage = QUIESCE_HOLDS;
	q->quiesced(q, NULL);
}

static void begin_writing(struct quiesce *q)
{
	stop_waiting(q);
	q->stage = QUIESCE_WRITING;
	q->fs = *q->upper_fd;
	close_fd(&q->writer_end);
	int r = worker_start(&q->writer, write_out, q, &q->fs, 1, QUIESCE_WRITE_MS);
	if (r == 0)
		q->writer_end = (int)syscall(SYS_pidfd_open, q->writer.pid, 0);
	if (r == 0 && q->writer_end < 0)
		r = -errno;
	if (r < 0) {
		struct err e;
		err_sys(&e, "sync", -r, "cannot start a worker");
		fail(q, TENON__CODE__CODE_RESOURCE_EXHAUSTED, &e);
	}
}

static void on_events(struct source *s, uint32_t events)
{
	(void)events;
	struct quiesce *q = container_of(s, struct quiesce, events);
	if (cgroup_is_frozen(q->events_fd))
		begin_writing(q);
}

static void begin_freezing(struct quiesce *q)
{
	q->stage = QUIESCE_FREEZING;
	q->events_fd = cgroup_open_events(&q->execs->cgroups, "cgroup.events");
	int r = q->events_fd < 0 ? q->events_fd : loop_add(q->loop, &q->events, q->events_fd, EPOLLPRI);
	if (r == 0)
		r = cgroup_freeze(&q->execs->cgroups, true);
	if (r < 0) {
		struct err e;
		err_sys(&e, "freeze", -r, "the executions' cgroup");
		fail(q, TENON__CODE__CODE_INTERNAL, &e);
	} else {
		on_events(&q->events, 0); /* an empty one is frozen at once */
	}
}

static void look_at_starts(struct timer *t)
{
	struct quiesce *q = container_of(t, struct quiesce, starts);
	if (execs_starting(q->execs))
		timer_set(q->loop, &q->starts, clock_mono() + TICK);
	else
		begin_freezing(q);
}

static void late(struct timer *t)
{
	struct quiesce *q = container_of(t, struct quiesce, deadline);
	fail_late(q, "freeze", "a process could not be frozen");
}

/* ---- resuming ---- */

/* What fails before the file system is touched leaves all as it was, and may be corrected and repeated. */
static bool still_holds(const struct quiesce *q, const struct err *e)
{
	static const char *const later[] = {"fithaw", "worker"};
	for (size_t i = 0; i < sizeof later / sizeof *later; i++)
		if (strcmp(e->stage, later[i]) == 0)
			return false;
	return q->froze && q->patience.next;
}

static void conclude_resume(struct quiesce *q, int r, const struct err *e)
{
	if (r == 0) {
		timer_clear(&q->patience);
		cgroup_freeze(&q->execs->cgroups, false);
		q->froze = false;
		q->stage = QUIESCE_OFF;
		q->resumed(q, NULL);
		return;
	}
	log_line("resume: %s: %s", e->stage, e->msg);
	q->identity->clone_generation = q->old_generation;
	Tenon__Code code = r == -ETIMEDOUT ? TENON__CODE__CODE_TIMEOUT : TENON__CODE__CODE_INTERNAL;
	struct fault f = {.code = code, .err = *e};
	if (still_holds(q, e))
		q->stage = QUIESCE_HOLDS;
	else
		let_go(q);
	q->resumed(q, &f);
}

static void thawer_done(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	(void)fds;
	struct quiesce *q = container_of(w, struct quiesce, thawer);
	if (q->stage == QUIESCE_RESUMING) {
		conclude_resume(q, r, e);
		return;
	}
	q->stage = QUIESCE_OFF;
	if (r < 0)
		log_line("quiesce: %s: %s", e->stage, e->msg);
}

void quiesce_init(struct quiesce *q)
{
	q->stage = QUIESCE_OFF;
	q->events = (struct source){-1, on_events};
	q->events_fd = q->writer_end = q->fs = -1;
	timer_init(&q->starts, look_at_starts);
	timer_init(&q->deadline, late);
	timer_init(&q->patience, out_of_patience);
	worker_init(&q->writer, q->loop, written);
	worker_init(&q->thawer, q->loop, thawer_done);
}

int quiesce_begin(struct quiesce *q, const Tenon__Quiesce *req, struct fault *f)
{
	if (!q->own_machine || !cgroup_present(&q->execs->cgroups)) {
		fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "there is no cgroup of ours to freeze here");
		f->field = "quiesce";
		return -ENOTSUP;
	}
	switch (q->stage) {
	case QUIESCE_OFF:
		break;
	case QUIESCE_HOLDS:
		q->quiesced(q, NULL);
		return 0;
	case QUIESCE_RESUMING:
	case QUIESCE_THAWING:
		return fault_code(f, TENON__CODE__CODE_FROZEN, "the one before is being undone");
	default:
		return 0;
	}
	uint64_t now = clock_mono(), ms = req->max_frozen_ms ? req->max_frozen_ms : PATIENCE_DEFAULT_MS;
	q->froze = true;
	q->keep_caches = req->keep_caches;
	q->stage = QUIESCE_STARTS;
	timer_set(q->loop, &q->patience, now + ms * NSEC_PER_MSEC);
	timer_set(q->loop, &q->deadline, now + QUIESCE_FREEZE_MS * NSEC_PER_MSEC);
	look_at_starts(&q->starts);
	return 0;
}

static int take_resume(struct quiesce *q, const Tenon__Resume *req, struct fault *f)
{
	static const struct settings_fields fields = {"resume.hostname", "resume.realtime_ns", "resume.seed"};
	uint64_t present = q->identity->clone_generation;
	if (req->clone_generation != 0 && req->clone_generation <= present)
		return fault_invalid(f, "resume.clone_generation", "%llu is not above %llu",
				     (unsigned long long)req->clone_generation, (unsigned long long)present);
	int r = settings_take(&q->settings, &req->hostname, req->realtime_ns, &req->seed, &fields, f);
	if (r == 0)
		r = net_take(&q->net, req->network, net_fields_resume, f);
	if (r == 0 && !q->own_machine && req->network) {
		r = fault_code(f, TENON__CODE__CODE_UNSUPPORTED,
			       "an agent on a plain host changes nothing of it");
		f->field = "resume.network";
	}
	return r;
}

int quiesce_resume(struct quiesce *q, const Tenon__Resume *req, struct fault *f)
{
	if (q->stage == QUIESCE_RESUMING)
		return 0;
	int r = take_resume(q, req, f);
	if (r < 0)
		return r;
	if (q->stage == QUIESCE_STARTS || q->stage == QUIESCE_FREEZING || q->stage == QUIESCE_WRITING) {
		struct err e;
		err_set(&e, "resume", ECANCELED, "a Resume came before it was through");
		fail(q, TENON__CODE__CODE_INTERNAL, &e);
	}
	q->old_generation = q->identity->clone_generation;
	if (req->clone_generation != 0)
		q->identity->clone_generation = req->clone_generation;
	if (!q->own_machine) {
		q->resumed(q, NULL);
		return 0;
	}

	struct err e;
	worker_stop(&q->thawer); /* one that thaws already: this one does it all */
	q->stage = QUIESCE_RESUMING;
	r = settings_add_seed(&q->settings, &e);
	if (r == 0)
		r = settings_set_clock(&q->settings, &e);
	if (r == 0)
		r = settings_set_hostname(&q->settings, &e);
	if (r == 0 && (r = start_thawer(q, resume, QUIESCE_RESUME_MS)) < 0)
		err_sys(&e, "resume", -r, "cannot start a worker");
	if (r < 0)
		conclude_resume(q, r, &e);
	return 0;
}

void quiesce_stop(struct quiesce *q)
{
	if (!q->own_machine)
		return;
	struct fault f;
	fault_code(&f, TENON__CODE__CODE_SHUTTING_DOWN, "the VM is going down");
	enum quiesce_stage was = q->stage;
	/* Also where nothing of ours is frozen: a box can freeze its file system by itself. */
	let_go(q);
	if (was == QUIESCE_STARTS || was == QUIESCE_FREEZING || was == QUIESCE_WRITING)
		q->quiesced(q, &f);
	else if (was == QUIESCE_RESUMING)
		q->resumed(q, &f);
}
