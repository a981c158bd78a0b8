/* The life of one box. Two rules: a status changes only through state_next, and nobody hears of it before it
 * is committed. Each step of a start checks that the box is still starting, so that a stop can come between
 * any two.
 *
 *   start:  commit starting → disk → accelerator known → doorbell, tenon-vmm forked → commit who it is →
 * released → ready → session → HELLO → Configure → commit running end:    (agent's Shutdown →) tenon-vmm gone
 * → exit.json, console → executions told → commit stopped or failed
 *
 * A crash between any two steps leaves a row from which box_take_up finds what there is. */
#include "box.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "console.h"
#include "exit_file.h"
#include "host-shim/daemon/images/digest.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "proto/frame.h"

#define GRACE_DEFAULT_MS 5000
#define GRACE_SHORT_MS 1000
#define UNMOUNT_MS 10000 /* what the agent needs beyond the grace: KILL, unmount, sync */
#define ADOPT_HELLO_MS 10000
/* tenon-vmm adds the console and panic=-1. Warnings are kept, since a panic's last words are of that level.
 */
#define KERNEL_APPEND "rdinit=/init loglevel=4"

static void advance(struct box *b, enum box_event event);
static void begin_start(struct box *b);
static void continue_start(struct box *b);
static void give_up(struct box *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void nothing_left(struct box *b);

/* ---- small things ---------------------------------------------------------------------------------- */

void box_failure(struct failure *f, enum failure_kind kind, const char *fmt, ...)
{
	*f = (struct failure){.kind = kind};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof f->message, fmt, ap);
	va_end(ap);
}

void box_store_failure(struct failure *f, int status, const struct err *e)
{
	box_failure(f, status == -ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL, "the database failed: %s", e->msg);
}

static enum box_status status_of(const struct box *b)
{
	return b->row.life.status;
}

static void settle(struct box *b)
{
	void (*settled)(void *) = b->settled;
	b->settled = NULL;
	if (settled)
		settled(b->settled_arg);
}

/* ---- waiters --------------------------------------------------------------------------------------- */

static void fail_call(box_done_fn done, void *arg, enum failure_kind kind, const char *what)
{
	struct failure f;
	box_failure(&f, kind, "%s", what);
	done(arg, NULL, &f);
}

static bool add_waiter(struct box *b, enum wish wish, box_done_fn done, void *arg)
{
	struct waiter *w = malloc(sizeof *w);
	if (!w) {
		fail_call(done, arg, FAIL_EXHAUSTED, "no memory");
		return false;
	}
	*w = (struct waiter){.wish = wish, .done = done, .arg = arg};
	TAILQ_INSERT_TAIL(&b->waiters, w, entry);
	return true;
}

static bool has_waiter(const struct box *b, enum wish wish)
{
	const struct waiter *w;
	TAILQ_FOREACH (w, &b->waiters, entry)
		if (w->wish == wish)
			return true;
	return false;
}

/* f NULL: their wish came true. Those who come during these calls wait for the next time. */
void box_tell(struct box *b, enum wish wish, const struct failure *f)
{
	struct waiter_list told = TAILQ_HEAD_INITIALIZER(told);
	struct waiter *w, *next;
	for (w = TAILQ_FIRST(&b->waiters); w; w = next) {
		next = TAILQ_NEXT(w, entry);
		if (w->wish == wish) {
			TAILQ_REMOVE(&b->waiters, w, entry);
			TAILQ_INSERT_TAIL(&told, w, entry);
		}
	}
	while ((w = TAILQ_FIRST(&told))) {
		TAILQ_REMOVE(&told, w, entry);
		w->done(w->arg, f || wish == WISH_GONE ? NULL : b, f);
		free(w);
	}
}

void box_abandon(struct box *b)
{
	struct failure f;
	box_failure(&f, FAIL_UNAVAILABLE, "tenond is ending");
	for (enum wish wish = WISH_RUNNING; wish <= WISH_GONE; wish++)
		box_tell(b, wish, &f);
}

/* ---- commits --------------------------------------------------------------------------------------- */

struct commit {
	struct box *box;
	struct box_life life;
	char written[ULID_LENGTH + 1]; /* a layer that the VM is about to have; "": none */
	void (*then)(struct box *b);
};

static int write_life(sqlite3 *db, void *arg, struct err *e)
{
	const struct commit *c = arg;
	int r = c->written[0] ? layer_set_written(db, c->written, e) : 0;
	return r < 0 ? r : box_row_update(db, c->box->row.id, &c->life, e);
}

static void on_committed(void *arg, int status, const struct err *e)
{
	struct commit *c = arg;
	struct box *b = c->box;
	struct boxes *bs = b->boxes;
	bool rising = c->life.status == BOX_STARTING || c->life.status == BOX_RUNNING;
	if (status < 0)
		fprintf(stderr, "tenond: box %s: %s is not committed: %s\n", b->row.id,
			state_name(c->life.status), e->msg);
	/* What ends ends, written or not: the next tenond will look for the VM and not find it. */
	if (status == 0 || !rising)
		b->told = c->life;
	if (!bs->closing && status < 0 && rising)
		give_up(b, "the database failed: %s", e->msg);
	else if (!bs->closing && c->then)
		c->then(b);
	free(c);
	boxes_unref(bs);
}

/* Writes the row's life as it is now; then(b), which may be NULL, follows the commit. */
static void commit(struct box *b, void (*then)(struct box *b))
{
	struct commit *c = malloc(sizeof *c);
	if (!c)
		abort(); /* as in store_submit: the box's status can no longer be kept */
	b->row.life.updated_ms = (int64_t)clock_ms(CLOCK_REALTIME);
	*c = (struct commit){.box = b, .life = b->row.life, .then = then};
	if (c->life.status == BOX_STARTING && !b->layer->written) {
		b->layer->written = true;
		strcpy(c->written, b->layer->id);
	}
	boxes_ref(b->boxes);
	store_submit(b->boxes->config.store, write_life, on_committed, c);
}

/* ---- the machine ----------------------------------------------------------------------------------- */

static void on_running(struct box *b)
{
	if (b->told.status != BOX_RUNNING || status_of(b) != BOX_RUNNING)
		return;
	settle(b);
	box_touch(b);
	box_tell(b, WISH_RUNNING, NULL);
	boxes_attend(b->boxes);
}

/* Somebody wants a box to run that does not. */
static void start_anew(struct box *b)
{
	struct failure f;
	if (!state_has_vm(status_of(b)) && !box_volumes_free(b, &f))
		box_tell(b, WISH_RUNNING, &f);
	else
		advance(b, EVENT_START);
}

static void on_over(struct box *b)
{
	struct failure f;
	struct tally *t = tally_get(&b->boxes->tallies, b->row.prefix);
	if (t)
		*(b->told.status == BOX_FAILED ? &t->counts.failed : &t->counts.stopped) += 1;
	settle(b);
	merge_kick(b->boxes);
	box_tell(b, WISH_ENDED, NULL);
	if (b->doomed || (b->told.status == BOX_STOPPED && b->row.auto_remove)) {
		b->doomed = true;
		box_failure(&f, FAIL_NOT_FOUND, "the box was deleted");
		box_tell(b, WISH_RUNNING, &f);
		box_remove(b);
	} else if (b->told.status == BOX_FAILED) {
		if (b->main.failure)
			f = *b->main.failure;
		else
			box_failure(&f, FAIL_UNAVAILABLE, "%s", b->told.error);
		box_tell(b, WISH_RUNNING, &f);
	} else if (has_waiter(b, WISH_RUNNING)) {
		/* They came while it was stopping. */
		start_anew(b);
	}
	boxes_attend(b->boxes);
}

static void enter(struct box *b, enum box_status status)
{
	switch (status) {
	case BOX_STARTING:
		b->row.life.error[0] = b->why[0] = '\0';
		b->row.life.boot_ms = b->prepare_ms = b->guest_boot_ms = 0;
		b->asked_ns = uv_hrtime();
		box_main_reset(b);
		b->awaits_disk = box_disk_is_held(b);
		if (!b->awaits_disk)
			commit(b, begin_start);
		break;
	case BOX_RUNNING:
		uv_timer_stop(&b->timer);
		b->row.life.boot_ms = (uv_hrtime() - b->asked_ns) / 1000000;
		b->prepare_ms = (b->spawned_ns - b->asked_ns) / 1000000;
		b->guest_boot_ms = (uv_hrtime() - b->spawned_ns) / 1000000;
		commit(b, on_running);
		break;
	case BOX_STOPPING:
		commit(b, NULL);
		break;
	case BOX_STOPPED:
	case BOX_FAILED:
		b->row.life.vmm = (struct process_id){0};
		commit(b, on_over);
		break;
	case BOX_CONFIGURED:
		break;
	}
}

static void advance(struct box *b, enum box_event event)
{
	int next = state_next(status_of(b), event);
	if (next < 0) {
		fprintf(stderr, "tenond: box %s: event %d while %s\n", b->row.id, event,
			state_name(status_of(b)));
		return;
	}
	if ((enum box_status)next == status_of(b))
		return;
	b->row.life.status = (enum box_status)next;
	enter(b, (enum box_status)next);
}

/* ---- the start ------------------------------------------------------------------------------------- */

/* The start has failed, or a VM that ran is of no use any more: what is left of it ends, then the box is
 * failed. */
static void give_up(struct box *b, const char *fmt, ...)
{
	if (!b->why[0]) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(b->why, sizeof b->why, fmt, ap);
		va_end(ap);
	}
	if (b->vmm)
		vmm_stop(b->vmm);
	else if (!b->disk_pending)
		nothing_left(b);
}

static bool start_goes_on(struct box *b)
{
	if (status_of(b) == BOX_STARTING && !b->why[0])
		return true;
	if (b->vmm)
		vmm_stop(b->vmm);
	else
		nothing_left(b);
	return false;
}

static void on_boot_deadline(uv_timer_t *t)
{
	struct box *b = t->data;
	give_up(b, "the agent was not ready after %u ms", b->boxes->config.boot_deadline_ms);
}

static void on_disk(void *arg, const struct err *e)
{
	struct box *b = arg;
	b->disk = NULL;
	b->disk_pending = false;
	if (e)
		give_up(b, "%s", e->msg);
	else if (start_goes_on(b))
		continue_start(b);
}

static void begin_start(struct box *b)
{
	struct boxes *bs = b->boxes;
	struct err e = {0};
	char template[4096], old[4096];
	bool mend = b->unclean;
	if (!start_goes_on(b))
		return;
	uv_timer_start(&b->timer, on_boot_deadline, bs->config.boot_deadline_ms, 0);
	snprintf(old, sizeof old, "%s/%s", b->state_dir, EXIT_FILE_NAME);
	snprintf(template, sizeof template, "%s/upper.ext4", bs->config.images_dir);
	/* The last run's word must not be taken for this one's. */
	if ((mkdir(b->state_dir, 0700) < 0 && errno != EEXIST) ||
	    (mkdir(b->run_dir, 0700) < 0 && errno != EEXIST) || (unlink(old) < 0 && errno != ENOENT)) {
		err_sys(&e, "box", errno, "preparing the box's directories");
		give_up(b, "%s", e.msg);
		return;
	}
	b->disk_pending = true;
	if (disk_ensure(&b->disk, bs->config.loop, template, b->layer, b->row.disk_size_gb, mend, on_disk, b,
			&e) < 0) {
		b->disk_pending = false;
		give_up(b, "%s", e.msg);
	}
}

static void on_shutdown_answered(void *arg, const struct failure *f)
{
	struct box *b = arg;
	/* An agent that cannot be asked will not power off; one that was asked has until the deadline. */
	if (f && b->vmm)
		vmm_stop(b->vmm);
}

static void on_doorbell(void *arg)
{
	struct box *b = arg;
	if (b->session)
		session_nudge(b->session);
}

static void on_main_begun(struct box *b, const struct failure *f)
{
	if (!b->session || status_of(b) != BOX_STARTING || b->why[0])
		return;
	if (f)
		give_up(b, "%s", f->message);
	else
		advance(b, EVENT_UP);
}

static void on_configured(void *arg, const struct failure *f);

static void configure(struct box *b)
{
	struct err e = {0};
	b->configuring = true;
	if (box_configure(b, on_configured, &e) < 0) {
		b->configuring = false;
		give_up(b, "%s", e.msg);
	}
}

static void on_configured(void *arg, const struct failure *f)
{
	struct box *b = arg;
	b->configuring = false;
	/* No session: it is being destroyed, the VM is gone. */
	if (!b->session || status_of(b) != BOX_STARTING || b->why[0])
		return;
	/* A link that broke meanwhile comes back by itself, and with it HELLO: then it is asked again. */
	if (f && f->kind == FAIL_UNAVAILABLE)
		return;
	if (f)
		give_up(b, "the agent could not make the box: %s%s%s", f->stage, f->stage[0] ? ": " : "",
			f->message);
	else
		box_main_begin(b, on_main_begun);
}

static void on_adopted_hello(struct box *b, const Tenon__Hello *hello)
{
	uv_timer_stop(&b->timer);
	settle(b);
	if (!hello->configured)
		give_up(b, "the agent forgot its box");
}

static void on_session_up(void *arg, const Tenon__Hello *hello)
{
	struct box *b = arg;
	if (status_of(b) == BOX_RUNNING)
		on_adopted_hello(b, hello);
	if (status_of(b) == BOX_RUNNING && b->session)
		box_bulks_begin(b);
	if (b->resumes_stop)
		session_shutdown(b->session, GRACE_SHORT_MS, on_shutdown_answered, b);
	if (status_of(b) != BOX_STARTING || b->why[0] || b->configuring)
		return;
	if (hello->configured)
		box_main_begin(b, on_main_begun);
	else
		configure(b);
}

static void on_rebooted(void *arg)
{
	struct box *b = arg;
	if (status_of(b) == BOX_RUNNING)
		give_up(b, "the guest booted anew and is no longer the box it was");
}

static int open_session(struct box *b, struct err *e)
{
	char path[108];
	snprintf(path, sizeof path, "%s/vsock.sock", b->run_dir);
	struct session_config c = {.executions = b->boxes->config.executions,
				   .box_id = b->row.id,
				   .socket_path = path,
				   .port = WIRE_PORT_AGENT,
				   .arg = b,
				   .up = on_session_up,
				   .rebooted = on_rebooted};
	return session_create(&b->session, &c, e);
}

static void on_vmm_ready(void *arg, const struct err *e)
{
	struct box *b = arg;
	struct err own = {0};
	if (e) {
		give_up(b, "%s", e->msg);
		return;
	}
	if (start_goes_on(b) && open_session(b, &own) < 0)
		give_up(b, "%s", own.msg);
}

static void on_vmm_ended(void *arg)
{
	struct box *b = arg;
	vmm_destroy(steal_ptr(&b->vmm));
	nothing_left(b);
}

static void on_vmm_known(struct box *b)
{
	/* Ended already: then that was told, and told it will be. */
	if (b->vmm && start_goes_on(b))
		vmm_release(b->vmm);
}

static void continue_start(struct box *b)
{
	const struct boxes_config *c = &b->boxes->config;
	char lower[BOX_PATH_MAX], upper[LAYERS_PATH_MAX];
	struct vmm_disk disks[BOX_VOLUMES_MAX];
	struct err e = {0};
	b->awaits_accel = !b->boxes->accel_result;
	if (b->awaits_accel)
		return; /* box_accel_known comes back here */
	box_lower_path(b, lower);
	layer_path(b->layer, upper);
	if (access(lower, R_OK) < 0) {
		const char *digest = b->row.settings.image_digest;
		give_up(b, "its image %s is not here: %s", digest ? digest : BOX_IMAGE, strerror(errno));
		return;
	}
	struct vmm_config v = {
		.loop = c->loop,
		.vmm_path = c->vmm_path,
		.run_dir = b->run_dir,
		.state_dir = b->state_dir,
		.kernel = c->kernel,
		.initrd = c->initrd,
		.append = KERNEL_APPEND,
		.machine = c->machine,
		.accel = b->boxes->accel_result,
		.cpus = b->row.cpus,
		.memory_mib = b->row.memory_mib,
		.network = b->row.settings.outbound,
		.lower = lower,
		.upper = upper,
		.disks = disks,
		.n_disks = b->row.settings.n_volumes,
		.arg = b,
		.ready = on_vmm_ready,
		.ended = on_vmm_ended,
	};
	if (box_volumes_disks(b, disks, &e) < 0 ||
	    doorbell_create(&b->doorbell, c->loop, b->run_dir, on_doorbell, b, &e) < 0 ||
	    vmm_spawn(&b->vmm, &v, &e) < 0) {
		give_up(b, "%s", e.msg);
		return;
	}
	b->spawned_ns = uv_hrtime();
	b->row.life.vmm = *vmm_identity(b->vmm);
	commit(b, on_vmm_known);
}

void box_accel_known(struct box *b)
{
	if (b->awaits_accel)
		continue_start(b);
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void end_executions(struct box *b, const char *reason)
{
	struct err e = {0};
	/* Those that an earlier tenond left running know their end only from a session, be it one that never
	 * was. */
	if (!b->session && b->settled && open_session(b, &e) < 0)
		fprintf(stderr, "tenond: box %s: %s\n", b->row.id, e.msg);
	if (b->session) {
		struct session_traffic t = session_traffic(b->session);
		b->traffic.sent += t.sent;
		b->traffic.received += t.received;
		session_destroy(steal_ptr(&b->session), reason);
	}
	box_bulks_fail(b);
}

/* No process of the VM is left, or none was made. */
static void nothing_left(struct box *b)
{
	char reason[160];
	uv_timer_stop(&b->timer);
	b->awaits_accel = b->awaits_disk = b->resumes_stop = false;
	enum box_event event = box_judge(b, reason, sizeof reason);
	doorbell_destroy(steal_ptr(&b->doorbell));
	remove_run_dir(b->run_dir);
	end_executions(b, reason);
	box_disk_vm_gone(b);
	box_main_settle(b);
	advance(b, event);
}

static void on_stop_deadline(uv_timer_t *t)
{
	struct box *b = t->data;
	if (b->vmm)
		vmm_stop(b->vmm);
}

/* grace_ms 0: without asking the guest. */
static void begin_stop(struct box *b, unsigned grace_ms)
{
	enum box_status was = status_of(b);
	bool ask = grace_ms && was == BOX_RUNNING && b->session && !b->why[0];
	if (was == BOX_STARTING) {
		struct failure f;
		box_failure(&f, FAIL_CONFLICT, "the box was stopped while it was starting");
		box_tell(b, WISH_RUNNING, &f);
	}
	if (was != BOX_STOPPING) {
		uv_timer_stop(&b->timer);
		advance(b, EVENT_STOP);
	}
	if (ask) {
		uv_timer_start(&b->timer, on_stop_deadline, grace_ms + UNMOUNT_MS, 0);
		session_shutdown(b->session, grace_ms, on_shutdown_answered, b);
	} else if (b->vmm && (was != BOX_STOPPING || !grace_ms)) {
		vmm_stop(b->vmm);
	} else if (b->awaits_accel || b->awaits_disk) {
		nothing_left(b);
	}
}

/* ---- taking up what an earlier tenond left ---------------------------------------------------------- */

static void on_adopt_deadline(uv_timer_t *t)
{
	/* Its VM runs, its agent does not answer: the session goes on trying, the others need not wait. */
	settle(t->data);
}

/* What the guest has not written yet belongs to a volume: it is asked again, as its agent may not have heard.
 */
static void resume_stop(struct box *b)
{
	struct err e = {0};
	if (open_session(b, &e) < 0) {
		vmm_stop(b->vmm);
		return;
	}
	b->resumes_stop = true;
	uv_timer_start(&b->timer, on_stop_deadline, GRACE_SHORT_MS + UNMOUNT_MS, 0);
	settle(b);
}

void box_take_up(struct box *b, void (*settled)(void *arg), void *arg)
{
	struct vmm_config c = {
		.loop = b->boxes->config.loop, .run_dir = b->run_dir, .arg = b, .ended = on_vmm_ended};
	struct err e = {0};
	b->settled = settled;
	b->settled_arg = arg;
	box_main_take_up(b);
	bool orderly = status_of(b) == BOX_STOPPING && box_volumes_writable(b);
	int r = vmm_adopt(&b->vmm, &c, &b->row.life.vmm, &e);
	if (status_of(b) == BOX_STARTING)
		/* Whoever asked for it is gone with the old tenond. A half-made box is not worth a guess: it
		 * ends. */
		advance(b, EVENT_STOP);
	if (r < 0) {
		nothing_left(b);
	} else if (orderly) {
		resume_stop(b);
	} else if (status_of(b) == BOX_STOPPING) {
		vmm_stop(b->vmm);
	} else if (open_session(b, &e) < 0) {
		give_up(b, "%s", e.msg);
	} else {
		uv_timer_start(&b->timer, on_adopt_deadline, ADOPT_HELLO_MS, 0);
		box_disk_look(b);
	}
}

/* ---- verbs ----------------------------------------------------------------------------------------- */

void box_start(struct box *b, box_done_fn done, void *arg)
{
	if (b->doomed) {
		fail_call(done, arg, FAIL_NOT_FOUND, "the box is being deleted");
		return;
	}
	if (!add_waiter(b, WISH_RUNNING, done, arg))
		return;
	b->main.for_use = false;
	bool ending = !state_has_vm(status_of(b)) && state_has_vm(b->told.status);
	box_touch(b);
	if (status_of(b) == BOX_RUNNING && b->told.status == BOX_RUNNING)
		box_tell(b, WISH_RUNNING, NULL);
	else if (!ending)
		start_anew(b);
}

bool box_may_resume(const struct box *b, struct failure *f)
{
	enum box_status now = status_of(b);
	if (b->row.auto_resume || (now != BOX_STOPPING && now != BOX_STOPPED))
		return true;
	box_failure(f, FAIL_CONFLICT, "the box is stopped and its auto_resume is false");
	return false;
}

void box_stop(struct box *b, unsigned grace_ms, box_done_fn done, void *arg)
{
	if (!add_waiter(b, WISH_ENDED, done, arg))
		return;
	if (state_has_vm(status_of(b)))
		begin_stop(b, grace_ms ? grace_ms : GRACE_DEFAULT_MS);
	else if (!state_has_vm(b->told.status))
		box_tell(b, WISH_ENDED, NULL);
}

void box_delete(struct box *b, bool force, box_done_fn done, void *arg)
{
	bool alive = state_has_vm(status_of(b)), was_doomed = b->doomed;
	if (alive && !force) {
		fail_call(done, arg, FAIL_CONFLICT,
			  "the box is running: stop it first, or delete it with force");
		return;
	}
	if (!add_waiter(b, WISH_GONE, done, arg))
		return;
	b->doomed = true;
	/* Nobody will miss what the guest has not written yet, unless it belongs to a volume. */
	if (alive && box_volumes_writable(b))
		begin_stop(b, GRACE_SHORT_MS);
	else if (alive)
		begin_stop(b, 0);
	else if (!was_doomed && !state_has_vm(b->told.status))
		box_remove(b);
}

void box_when_thawed(struct box *b, box_done_fn done, void *arg)
{
	if (add_waiter(b, WISH_THAWED, done, arg) && !b->frozen)
		box_tell(b, WISH_THAWED, NULL);
}

void box_disk_free(struct box *b)
{
	box_disk_go_on(b);
	if (!b->awaits_disk || box_disk_is_held(b))
		return;
	b->awaits_disk = false;
	commit(b, begin_start);
}

int box_open_console(const struct box *b)
{
	return console_open(b->state_dir);
}

void box_get_info(struct box *b, struct box_info *out)
{
	const struct box_row *r = &b->row;
	*out = (struct box_info){
		.id = r->id,
		.prefix = r->prefix,
		.name = r->name,
		.image = r->image,
		.labels_json = r->labels,
		.working_dir = r->working_dir,
		.env = (const char *const *)r->env,
		.settings = &r->settings,
		.status = b->told.status,
		.cpus = r->cpus,
		.memory_mib = r->memory_mib,
		.disk_size_gb = r->disk_size_gb,
		.auto_stop = r->auto_stop,
		.auto_delete = r->auto_delete,
		.auto_resume = r->auto_resume,
		.auto_remove = r->auto_remove,
		.created_ms = r->created_ms,
		.updated_ms = b->told.updated_ms,
		.pid = b->vmm && b->told.status == BOX_RUNNING ? vmm_qemu_pid(b->vmm) : 0,
		.main_id = b->told.main_id[0] ? b->told.main_id : NULL,
		.has_exit = b->told.has_exit,
		.exit_code = b->told.exit_code,
		.user = r->settings.user ? r->settings.user : r->settings.image.user,
		.boot_ms = b->told.boot_ms,
		.prepare_ms = b->prepare_ms,
		.guest_boot_ms = b->guest_boot_ms,
		.commands = b->commands,
		.exec_errors = b->exec_errors,
		.executions = b->session ? session_running(b->session) : 0,
	};
	snprintf(out->error, sizeof out->error, "%s", b->told.error);
	struct session_traffic now = {0};
	if (b->session)
		now = session_traffic(b->session);
	out->traffic.sent = b->traffic.sent + now.sent;
	out->traffic.received = b->traffic.received + now.received;
}
