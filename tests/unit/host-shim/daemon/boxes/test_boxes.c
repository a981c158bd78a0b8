/* Boxes with everything real but the VM: tenon-vmm is a script that says "ready" and waits, sessions are this
 * file's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/box.h"
#include "host-shim/daemon/boxes/process.h"
#include "host-shim/daemon/store/sql.h"
#include "proto/clock.h"

/* ---- sessions, as this test wishes ------------------------------------------------------------------ */

struct session {
	struct session_config c;
	char box_id[32];
	uv_timer_t timer;
	session_done_fn configured;
	void *arg;
};

static struct {
	uv_loop_t *loop;
	bool silent;         /* no HELLO ever comes */
	bool refuse;         /* Configure fails */
	bool ignore_stop;    /* Shutdown is answered and nothing happens */
	bool execs_stay;     /* what is started runs on, and counts from that moment */
	bool unlinked;       /* the link is down */
	bool frozen;         /* until it is resumed, and nothing can be started */
	int unheard;         /* so many Resumes find no link */
	int dials;           /* of bulk connections */
	int dialled;         /* op_case of the last */
	bool was_configured; /* what HELLO says: an adopted box's agent is */
	int sessions, configures, shutdowns, forgotten;
	unsigned running; /* executions of every session */
	uint64_t idle_ms; /* since when there are none */
	int execs;
	struct failure *no_main; /* the main command cannot be started */
	uv_timer_t main_timer;
	execution_started_fn main_started;
	void *main_arg;
	bool main_reaped;
	char mounts[256];
	char reason[160]; /* of the latest session_destroy; "-" for NULL */
	char hostname[80], env[80];
	struct session *last;
	pid_t vmm; /* TERM for it is the guest's power off */
} fake;

static void on_fake_up(uv_timer_t *t)
{
	struct session *s = t->data;
	Tenon__Hello hello = TENON__HELLO__INIT;
	hello.configured = fake.was_configured;
	s->c.up(s->c.arg, &hello);
}

int session_create(struct session **out, const struct session_config *c, struct err *e)
{
	(void)e;
	struct session *s = calloc(1, sizeof *s);
	s->c = *c;
	snprintf(s->box_id, sizeof s->box_id, "%s", c->box_id);
	uv_timer_init(fake.loop, &s->timer);
	s->timer.data = s;
	if (!fake.silent)
		uv_timer_start(&s->timer, on_fake_up, 5, 0);
	fake.sessions++;
	*out = fake.last = s;
	return 0;
}

void session_nudge(struct session *s)
{
	(void)s;
}

static void on_fake_configured(uv_timer_t *t)
{
	struct session *s = t->data;
	struct failure f = {.kind = FAIL_EXEC, .stage = "mount", .errnum = 22, .message = "no root"};
	session_done_fn done = s->configured;
	s->configured = NULL;
	done(s->arg, fake.refuse ? &f : NULL);
}

void session_configure(struct session *s, const Tenon__Configure *c, unsigned deadline_ms,
		       session_done_fn done, void *arg)
{
	(void)deadline_ms;
	fake.configures++;
	snprintf(fake.hostname, sizeof fake.hostname, "%.*s", (int)c->hostname.len, c->hostname.data);
	fake.env[0] = '\0';
	for (size_t i = 0; i < c->n_env; i++)
		snprintf(fake.env + strlen(fake.env), sizeof fake.env - strlen(fake.env), "%s%.*s",
			 i ? " " : "", (int)c->env[i].len, (char *)c->env[i].data);
	fake.mounts[0] = '\0';
	for (size_t i = 0; i < c->n_mounts; i++) {
		const Tenon__Mount *m = c->mounts[i];
		size_t used = strlen(fake.mounts);
		snprintf(fake.mounts + used, sizeof fake.mounts - used, "%.*s at %.*s%s, ",
			 (int)m->source.len, m->source.data, (int)m->target.len, m->target.data,
			 m->read_only ? " read-only" : "");
	}
	assert_int_equal(c->seed.len, 64);
	assert_int_equal(c->root->kind_case, TENON__ROOT__KIND_OVERLAY);
	s->configured = done;
	s->arg = arg;
	uv_timer_start(&s->timer, on_fake_configured, 5, 0);
}

void session_quiesce(struct session *s, unsigned max_ms, session_done_fn done, void *arg)
{
	(void)max_ms;
	session_resume(s, done, arg);
}

void session_resume(struct session *s, session_done_fn done, void *arg)
{
	struct failure f = {.kind = fake.unheard > 0 ? FAIL_UNAVAILABLE : FAIL_TIMEOUT,
			    .message = "this agent freezes nothing"};
	(void)s;
	fake.frozen = fake.frozen && fake.unheard-- > 0;
	done(arg, &f);
}

void session_shutdown(struct session *s, unsigned grace_ms, session_done_fn done, void *arg)
{
	(void)s;
	assert_true(grace_ms > 0);
	fake.shutdowns++;
	if (!fake.ignore_stop)
		kill(fake.vmm, SIGUSR1);
	done(arg, NULL);
}

static void free_session(uv_handle_t *h)
{
	free(h->data);
}

void session_destroy(struct session *s, const char *reason)
{
	struct failure f = {.kind = FAIL_UNAVAILABLE, .message = "the VM ended"};
	snprintf(fake.reason, sizeof fake.reason, "%s", reason ? reason : "-");
	if (s->configured)
		s->configured(s->arg, &f);
	uv_close((uv_handle_t *)&s->timer, free_session);
}

unsigned session_running(const struct session *s)
{
	(void)s;
	return fake.running;
}

uint64_t session_idle_since(const struct session *s)
{
	(void)s;
	return fake.idle_ms;
}

struct session_traffic session_traffic(const struct session *s)
{
	(void)s;
	return (struct session_traffic){.sent = 3, .received = 4};
}

bool session_up(const struct session *s)
{
	(void)s;
	return !fake.unlinked;
}

int session_bulk(struct session *s, const Tenon__BulkRequest *req, void (*wake)(void *arg), void *arg,
		 struct bulk **out, struct err *e)
{
	(void)s;
	(void)wake;
	(void)arg;
	(void)out;
	fake.dialled = req->op_case;
	fake.dials++;
	return err_set(e, "bulk", ECONNREFUSED, "dialled");
}

void failure_from_agent(struct failure *f, const Tenon__Error *m)
{
	(void)m;
	*f = (struct failure){.kind = FAIL_INTERNAL};
}

/* The one execution there is: a main command. */
static struct execution {
	unsigned refs;
	bool ended;
	int code;
	void (*on_end)(void *arg);
	void *on_end_arg;
} main_x;

static void on_fake_main(uv_timer_t *t)
{
	execution_started_fn started = fake.main_started;
	uv_close((uv_handle_t *)t, NULL);
	fake.main_started = NULL;
	main_x.ended = false;
	started(fake.main_arg, fake.no_main ? NULL : &main_x, fake.no_main);
}

void executions_start(struct session *s, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	(void)s;
	assert_false(fake.frozen);
	fake.execs++;
	fake.running += fake.execs_stay;
	snprintf(fake.env, sizeof fake.env, "%s in %s", spec->argv[0], spec->cwd ? spec->cwd : "/");
	if (strcmp(spec->argv[0], "main") != 0) {
		done(arg, NULL, NULL);
		return;
	}
	fake.main_started = done;
	fake.main_arg = arg;
	uv_timer_init(fake.loop, &fake.main_timer);
	uv_timer_start(&fake.main_timer, on_fake_main, 5, 0);
}

struct execution *execution_ref(struct execution *x)
{
	x->refs++;
	return x;
}

void execution_unref(struct execution *x)
{
	if (x)
		x->refs--;
}

const char *execution_id(const struct execution *x)
{
	(void)x;
	return "00000000000000000000000000000001";
}

void execution_get_info(const struct execution *x, struct execution_info *out)
{
	*out = (struct execution_info){.status = x->ended ? EXECUTION_COMPLETED : EXECUTION_RUNNING,
				       .exit_code = x->code};
}

void execution_on_end(struct execution *x, void (*fn)(void *arg), void *arg)
{
	x->on_end = fn;
	x->on_end_arg = arg;
}

bool execution_has_ended(const struct execution *x, int *exit_code)
{
	*exit_code = x->code;
	return x->ended;
}

struct execution *executions_find(struct executions *xs, const char *box_id, const char *id, bool *reaped)
{
	(void)xs;
	(void)box_id;
	*reaped = fake.main_reaped;
	return fake.main_reaped || strcmp(id, execution_id(NULL)) != 0 ? NULL : &main_x;
}

static void end_main(int code)
{
	void (*tell)(void *) = main_x.on_end;
	main_x.ended = true;
	main_x.code = code;
	main_x.on_end = NULL;
	if (tell)
		tell(main_x.on_end_arg);
}

void executions_forget_box(struct executions *xs, const char *box_id)
{
	(void)xs;
	(void)box_id;
	fake.forgotten++;
}

/* ---- the bench --------------------------------------------------------------------------------------- */

static const char script[] =
	"#!/bin/sh\n"
	"all=$*\n"
	"while [ $# -gt 0 ]; do\n"
	"	case $1 in --state-dir) state=$2;; --run-dir) run=$2;; --ready-fd) fd=$2;; --initrd) "
	"initrd=$2;; esac\n"
	"	shift\n"
	"done\n"
	"end() { echo \"{\\\"reason\\\":\\\"$1\\\",\\\"message\\\":\\\"$2\\\"}\" >$state/exit.json; exit 0; "
	"}\n"
	"trap 'end stopped' TERM; trap 'end guest_shutdown' USR1; trap 'end guest_reset' USR2\n"
	"echo $$ >$state/pid; echo \"$all\" >$state/args\n"
	"case $initrd in\n"
	"*broken) echo 'cannot do it' >/proc/self/fd/$fd; end start_failed 'QEMU said no';;\n"
	"*dumb) exit 3;;\n"
	"esac\n"
	"echo 'boot 1' >$state/console.log\n"
	": >$run/vsock.sock; : >$run/vmm.sock\n"
	"echo ready >/proc/self/fd/$fd\n"
	/* It ends with the test's folder, and by itself if that stays: a fake VM must not outlive a failed
	   test. */
	"n=0; while [ -d $state ] && [ $n -lt 6000 ]; do n=$((n + 1)); sleep 0.01; done\n";

struct bench {
	char dir[64], vmm[80], images[80], initrd[96], path[128];
	uv_loop_t loop;
	struct store *store;
	struct volumes *volumes;
	struct boxes *boxes;
	struct box *box;
	int done, failed;
	struct failure failure;
	unsigned deadline_ms;
};

static void on_done(void *arg, struct box *b, const struct failure *f)
{
	struct bench *x = arg;
	x->done++;
	if (f) {
		x->failed++;
		x->failure = *f;
	}
	if (b)
		x->box = b;
}

static void on_adopted(void *arg)
{
	((struct bench *)arg)->done++;
}

static void stop_loop(uv_timer_t *t)
{
	fail_msg("nothing happened for %d s", 20);
	(void)t;
}

/* Until done has been called so often. */
static void wait_done(struct bench *x, int n)
{
	uv_timer_t guard;
	uv_timer_init(&x->loop, &guard);
	uv_timer_start(&guard, stop_loop, 20000, 0);
	while (x->done < n)
		uv_run(&x->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&x->loop, UV_RUN_NOWAIT);
	x->done = 0;
}

static void open_all(struct bench *x)
{
	struct err e = {0};
	char db[96];
	snprintf(db, sizeof db, "%s/tenon.db", x->dir);
	assert_int_equal(uv_loop_init(&x->loop), 0);
	fake.loop = &x->loop;
	assert_int_equal(store_open(&x->store, &x->loop, db, &e), 0);
	char run[80], template[96];
	snprintf(run, sizeof run, "%s/run", x->dir);
	mkdir(run, 0700);
	snprintf(template, sizeof template, "%s/upper.ext4", x->images);
	struct volumes_config v = {
		.loop = &x->loop, .store = x->store, .state_dir = x->dir, .template = template};
	assert_int_equal(volumes_create(&x->volumes, &v, &e), 0);
	struct boxes_config c = {.loop = &x->loop,
				 .store = x->store,
				 .volumes = x->volumes,
				 .state_dir = x->dir,
				 .runtime_dir = run,
				 .host_dir = x->dir,
				 .vmm_path = x->vmm,
				 .kernel = "/k",
				 .initrd = x->initrd,
				 .images_dir = x->images,
				 .accel = "auto",
				 .machine = "q35",
				 .resolv_conf = "nameserver 10.0.2.3\n",
				 .boot_deadline_ms = x->deadline_ms};
	if (boxes_create(&x->boxes, &c, &e) != 0)
		fail_msg("%s", e.msg);
	x->done = x->failed = 0;
	boxes_adopt(x->boxes, on_adopted, x);
	wait_done(x, 1);
}

static void close_all(struct bench *x)
{
	boxes_destroy(x->boxes);
	volumes_destroy(x->volumes);
	store_close(x->store);
	uv_run(&x->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&x->loop), 0);
}

static int setup(void **state)
{
	struct bench *x = calloc(1, sizeof *x);
	memset(&fake, 0, sizeof fake);
	memset(&main_x, 0, sizeof main_x);
	strcpy(x->dir, "/tmp/tenon-boxes-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->vmm, sizeof x->vmm, "%s/vmm", x->dir);
	snprintf(x->images, sizeof x->images, "%s", x->dir);
	strcpy(x->initrd, "/i");
	x->deadline_ms = 10000;
	FILE *f = fopen(x->vmm, "w");
	fputs(script, f);
	fclose(f);
	chmod(x->vmm, 0700);
	/* The probe's answer is known, and so given before boxes are taken up. */
	struct process_id self;
	assert_int_equal(process_identify(&self, getpid()), 0);
	snprintf(x->path, sizeof x->path, "%s/accel", x->dir);
	f = fopen(x->path, "w");
	fprintf(f, "tcg %s\n", self.boot);
	fclose(f);
	snprintf(x->path, sizeof x->path, "%s/base.squashfs", x->dir);
	fclose(fopen(x->path, "w"));
	snprintf(x->path, sizeof x->path, "%s/upper.ext4", x->dir);
	f = fopen(x->path, "w");
	fclose(f);
	assert_int_equal(truncate(x->path, 1 << 20), 0);
	open_all(x);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct bench *x = *state;
	close_all(x);
	assert_int_equal(main_x.refs, 0);
	snprintf(x->path, sizeof x->path, "rm -rf %s", x->dir);
	assert_int_equal(system(x->path), 0);
	free(x);
	return 0;
}

static void add(struct bench *x, const char *name)
{
	static const char *const env[] = {"LANG=C", NULL};
	struct box_spec spec = {
		.prefix = "p", .name = name, .env = env, .auto_resume = true, .working_dir = "/srv"};
	boxes_add(x->boxes, &spec, on_done, x);
	wait_done(x, 1);
}

static struct box_info info(struct bench *x)
{
	struct box_info i;
	box_get_info(x->box, &i);
	return i;
}

static const char *in_state(struct bench *x, const char *name)
{
	snprintf(x->path, sizeof x->path, "%s/boxes/%s/%s", x->dir, info(x).id, name);
	return x->path;
}

/* The newest file of a disk; "" if there is none. */
static const char *disk(struct bench *x)
{
	char name[64] = "";
	snprintf(x->path, sizeof x->path, "%s/disks", x->dir);
	DIR *d = opendir(x->path);
	for (const struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.' && strcmp(e->d_name, name) > 0)
			snprintf(name, sizeof name, "%.63s", e->d_name);
	closedir(d);
	snprintf(x->path, sizeof x->path, name[0] ? "%s/disks/%s" : "", x->dir, name);
	return x->path;
}

static pid_t vmm_pid(struct bench *x)
{
	int pid = 0;
	FILE *f = fopen(in_state(x, "pid"), "r");
	if (f) {
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	return fake.vmm = pid;
}

static void start(struct bench *x)
{
	box_start(x->box, on_done, x);
	wait_done(x, 1);
	vmm_pid(x);
}

static bool alive(pid_t pid)
{
	struct process_id id;
	char path[64], line[512] = "";
	if (process_identify(&id, pid) < 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	bool zombie = !f || !fgets(line, sizeof line, f) || strstr(line, ") Z ");
	if (f)
		fclose(f);
	return !zombie;
}

static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;
	for (const struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return d ? n : -1;
}

static void assert_nothing_runs(struct bench *x)
{
	char run[80];
	snprintf(run, sizeof run, "%s/run", x->dir);
	assert_int_equal(entries(run), 0);
	assert_false(fake.vmm && alive(fake.vmm));
}

/* ---- tests ------------------------------------------------------------------------------------------- */

static void create_and_find(void **state)
{
	struct bench *x = *state;
	add(x, "first");
	struct box_info i = info(x);
	assert_int_equal(i.status, BOX_CONFIGURED);
	assert_string_equal(i.image, "tenon/base");
	assert_string_equal(i.labels_json, "{}");
	assert_int_equal(i.memory_mib, 256);
	assert_ptr_equal(boxes_find(x->boxes, "p", "first"), x->box);
	assert_ptr_equal(boxes_find(x->boxes, "p", i.id), x->box);
	assert_null(boxes_find(x->boxes, "p", "second"));

	struct box *first = x->box;
	assert_null(boxes_find(x->boxes, "q", "first"));
	assert_null(boxes_find(x->boxes, "q", i.id));
	assert_int_equal(boxes_count(x->boxes, "p"), 1);
	assert_int_equal(boxes_count(x->boxes, "q"), 0);

	struct box_spec taken = {.prefix = "p", .name = "first"}, small = {.prefix = "p", .memory_mib = 16},
			same = {.prefix = "q", .name = "first"};
	boxes_add(x->boxes, &taken, on_done, x);
	assert_int_equal(x->failure.kind, FAIL_EXISTS);
	boxes_add(x->boxes, &small, on_done, x);
	assert_int_equal(x->failure.kind, FAIL_INVALID);
	/* A name is another's in another prefix. */
	boxes_add(x->boxes, &same, on_done, x);
	wait_done(x, 3);
	assert_ptr_equal(boxes_find(x->boxes, "q", "first"), x->box);
	assert_ptr_equal(boxes_find(x->boxes, "p", "first"), first);
}

static void life(void **state)
{
	struct bench *x = *state;
	add(x, "life");
	start(x);
	assert_int_equal(x->failed, 0);
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_string_equal(fake.hostname, "life");
	assert_string_equal(fake.env, "LANG=C");
	assert_true(alive(fake.vmm));
	assert_int_equal(access(disk(x), F_OK), 0);
	start(x); /* idempotent */
	assert_int_equal(fake.sessions, 1);

	box_delete(x->box, false, on_done, x);
	assert_int_equal(x->failure.kind, FAIL_CONFLICT);
	x->done = x->failed = 0;

	box_stop(x->box, 1000, on_done, x);
	box_stop(x->box, 1000, on_done, x);
	wait_done(x, 2);
	assert_int_equal(fake.shutdowns, 1);
	assert_int_equal(info(x).status, BOX_STOPPED);
	assert_string_equal(fake.reason, "the guest shut down");
	assert_nothing_runs(x);
	box_stop(x->box, 1000, on_done, x);
	wait_done(x, 1);

	start(x);
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_int_equal(info(x).traffic.sent, 6); /* of both VMs */
	assert_int_equal(info(x).traffic.received, 8);
	box_delete(x->box, true, on_done, x);
	wait_done(x, 1);
	assert_int_equal(x->failed, 0);
	assert_int_equal(fake.forgotten, 1);
	assert_null(boxes_find(x->boxes, "p", "life"));
	assert_nothing_runs(x);
	snprintf(x->path, sizeof x->path, "%s/boxes", x->dir);
	assert_int_equal(entries(x->path), 0);
}

static void concurrent_starts_share_one(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	for (int i = 0; i < 10; i++)
		box_start(x->box, on_done, x);
	wait_done(x, 10);
	assert_int_equal(x->failed, 0);
	assert_int_equal(fake.configures, 1);
}

static void exec_starts_the_box(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	char **argv = calloc(2, sizeof *argv);
	argv[0] = strdup("true");
	struct exec_spec spec = {.argv = (const char *const *)argv};
	box_exec(x->box, &spec, (execution_started_fn)(void *)on_done, x);
	free(argv[0]);
	free(argv);
	wait_done(x, 1);
	assert_string_equal(fake.env, "true in /srv");
	assert_int_equal(info(x).status, BOX_RUNNING);
}

/* All at once, and before the box runs: as many as may are started, and not one more. */
static void so_many_executions(void **state)
{
	struct bench *x = *state;
	static const char *const argv[] = {"true", NULL};
	struct exec_spec spec = {.argv = argv};
	add(x, NULL);
	fake.execs_stay = true;
	for (int i = 0; i < BOX_EXECUTIONS_MAX + 100; i++)
		box_exec(x->box, &spec, (execution_started_fn)(void *)on_done, x);
	wait_done(x, BOX_EXECUTIONS_MAX + 100);
	assert_int_equal(fake.execs, BOX_EXECUTIONS_MAX);
	assert_int_equal(x->failed, 100);
	assert_int_equal(x->failure.kind, FAIL_EXHAUSTED);
	/* And with the box running, between two of its turns. */
	fake.running -= 3;
	for (int i = 0; i < 10; i++)
		box_exec(x->box, &spec, (execution_started_fn)(void *)on_done, x);
	wait_done(x, 10);
	assert_int_equal(x->failed, 107);
}

static void on_wake(void *arg)
{
	++*(int *)arg;
}

/* A file operation, a tunnel or a question for metrics that comes while the main link is made again. */
static void operations_wait_for_the_link(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	start(x);
	Tenon__GetMetrics get = TENON__GET_METRICS__INIT;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_METRICS;
	req.metrics = &get;
	struct box_bulk_item item;
	int woken[3] = {0};
	fake.unlinked = true;
	fake.dials = 0;
	struct box_bulk *first = box_bulk(x->box, &req, false, on_wake, &woken[0]);
	struct box_bulk *given_up = box_bulk(x->box, &req, false, on_wake, &woken[1]);
	box_bulk_next(first, 0, &item);
	assert_int_equal(item.kind, BULK_WAIT);
	box_bulk_close(given_up);
	uv_run(&x->loop, UV_RUN_NOWAIT);

	Tenon__Hello hello = TENON__HELLO__INIT;
	hello.configured = true;
	fake.unlinked = false;
	fake.last->c.up(fake.last->c.arg, &hello);
	assert_int_equal(fake.dials, 1);
	assert_int_equal(fake.dialled, TENON__BULK_REQUEST__OP_METRICS);
	assert_int_equal(woken[0], 1);
	box_bulk_next(first, 0, &item);
	assert_int_equal(item.kind, BULK_FAILED);
	assert_string_equal(item.failure.message, "dialled");
	box_bulk_close(first);

	/* The VM ends instead. */
	fake.unlinked = true;
	struct box_bulk *last = box_bulk(x->box, &req, false, on_wake, &woken[2]);
	box_stop(x->box, 1000, on_done, x);
	wait_done(x, 1);
	assert_int_equal(woken[2], 1);
	box_bulk_next(last, 0, &item);
	assert_int_equal(item.kind, BULK_FAILED);
	assert_int_equal(item.failure.kind, FAIL_UNAVAILABLE);
	box_bulk_close(last);
	assert_int_equal(fake.dials, 1);
	assert_int_equal(woken[1], 0);
	fake.unlinked = false;
}

static void failing_start(struct bench *x, const char *words)
{
	box_start(x->box, on_done, x);
	box_start(x->box, on_done, x);
	wait_done(x, 2);
	vmm_pid(x);
	assert_int_equal(x->failed, 2);
	assert_int_equal(x->failure.kind, FAIL_UNAVAILABLE);
	if (!strstr(x->failure.message, words))
		fail_msg("\"%s\" does not hold \"%s\"", x->failure.message, words);
	assert_int_equal(info(x).status, BOX_FAILED);
	assert_non_null(strstr(info(x).error, words));
	assert_nothing_runs(x);
	x->failed = 0;
}

static void starts_that_fail(void **state)
{
	struct bench *x = *state;
	static const struct {
		const char *initrd, *words;
		bool silent, refuse;
	} ways[] = {
		{"/broken", "cannot do it", false, false},
		{"/dumb", "before it was ready", false, false},
		{"/i", "not ready after 300 ms; console: boot 1", true, false},
		{"/i", "mount: no root", false, true},
	};
	add(x, NULL);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		char id[32];
		snprintf(id, sizeof id, "%s", info(x).id);
		close_all(x);
		strcpy(x->initrd, ways[i].initrd);
		fake.silent = ways[i].silent;
		fake.refuse = ways[i].refuse;
		x->deadline_ms = ways[i].silent ? 300 : 10000;
		open_all(x);
		x->box = boxes_find(x->boxes, "p", id);
		assert_non_null(x->box);
		failing_start(x, ways[i].words);
	}
	fake.refuse = false;
	start(x); /* a failed box can be started again */
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_string_equal(info(x).error, "");
}

static void no_template(void **state)
{
	struct bench *x = *state;
	snprintf(x->path, sizeof x->path, "%s/upper.ext4", x->dir);
	unlink(x->path);
	add(x, NULL);
	failing_start(x, "qemu-img");
}

static void made_of_an_image(void **state)
{
	struct bench *x = *state;
	static const char digest[] =
		"sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	static const char *const env[] = {"BOTH=box", "BOX=1", NULL};
	char *image_env[] = {"IMAGE=1", "BOTH=image", "BOTHER=image", NULL}, args[4096] = "";
	struct box_settings settings = {.image_digest = (char *)digest,
					.image = {.env = image_env, .working_dir = "/from/image"}};
	struct box_spec spec = {.prefix = "p", .image = "x", .env = env, .settings = &settings};
	boxes_add(x->boxes, &spec, on_done, x);
	wait_done(x, 1);
	assert_int_equal(boxes_count_image(x->boxes, "p", digest), 1);
	assert_int_equal(boxes_count_image(x->boxes, "q", digest), 0);
	failing_start(x, "is not here");

	char path[256];
	snprintf(path, sizeof path, "%s/images", x->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/images/%s.squashfs", x->dir, digest + strlen("sha256:"));
	fclose(fopen(path, "w"));
	start(x);
	assert_int_equal(x->failed, 0);
	assert_string_equal(fake.env, "IMAGE=1 BOTHER=image BOTH=box BOX=1");
	FILE *f = fopen(in_state(x, "args"), "r");
	assert_non_null(f);
	assert_non_null(fgets(args, sizeof args, f));
	fclose(f);
	assert_non_null(strstr(args, path));
	struct exec_spec exec = {.argv = (const char *const[]){"true", NULL}};
	box_exec(x->box, &exec, (execution_started_fn)(void *)on_done, x);
	wait_done(x, 1);
	assert_string_equal(fake.env, "true in /from/image");
	box_delete(x->box, true, on_done, x);
	wait_done(x, 1);
	assert_int_equal(boxes_count_image(x->boxes, "p", digest), 0);
}

static void wait_status(struct bench *x, enum box_status s)
{
	uv_timer_t guard;
	uv_timer_init(&x->loop, &guard);
	uv_timer_start(&guard, stop_loop, 20000, 0);
	while (info(x).status != s)
		uv_run(&x->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&x->loop, UV_RUN_NOWAIT);
}

static void ends_by_itself(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	start(x);
	kill(fake.vmm, SIGUSR1);
	wait_status(x, BOX_STOPPED);
	assert_string_equal(info(x).error, "");

	start(x);
	FILE *f = fopen(in_state(x, "console.log"), "a");
	fputs("[   3.1] Kernel panic - not syncing: because\n", f);
	fclose(f);
	kill(fake.vmm, SIGUSR2);
	wait_status(x, BOX_FAILED);
	assert_string_equal(info(x).error,
			    "the guest's kernel panicked; console: Kernel panic - not syncing: because");
	assert_string_equal(fake.reason, "the guest's kernel panicked");

	start(x);
	kill(fake.vmm, SIGKILL);
	wait_status(x, BOX_FAILED);
	assert_non_null(strstr(info(x).error, "without saying why"));
	assert_nothing_runs(x);
}

static void stop_while_starting(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	fake.silent = true;
	/* At any turn of the loop: at each it is in another step. */
	for (int turns = 0; turns < 40; turns++) {
		box_start(x->box, on_done, x);
		for (int i = 0; i < turns; i++)
			uv_run(&x->loop, UV_RUN_ONCE);
		box_stop(x->box, 100, on_done, x);
		wait_done(x, 2);
		assert_int_equal(x->failed, 1);
		assert_int_equal(x->failure.kind, FAIL_CONFLICT);
		assert_int_equal(info(x).status, BOX_STOPPED);
		vmm_pid(x);
		assert_nothing_runs(x);
		unlink(in_state(x, "pid"));
		x->failed = 0;
		if (turns % 8 == 0)
			unlink(disk(x));
	}
}

static void start_while_stopping(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	start(x);
	box_stop(x->box, 100, on_done, x);
	box_start(x->box, on_done, x);
	wait_done(x, 2);
	assert_int_equal(x->failed, 0);
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_int_equal(fake.sessions, 2);
}

static void stubborn_guest_is_stopped(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	start(x);
	fake.ignore_stop = true;
	box_stop(x->box, 1000, on_done, x);
	/* A forced delete does not wait for the grace. */
	box_delete(x->box, true, on_done, x);
	wait_done(x, 2);
	assert_int_equal(x->failed, 0);
	assert_nothing_runs(x);
}

/* ---- tenond ends and comes back ---------------------------------------------------------------------- */

static void reopen(struct bench *x)
{
	char id[32];
	snprintf(id, sizeof id, "%s", info(x).id);
	close_all(x);
	open_all(x);
	x->box = boxes_find(x->boxes, "p", id);
	assert_non_null(x->box);
}

static void adopts_what_runs(void **state)
{
	struct bench *x = *state;
	add(x, "kept");
	start(x);
	pid_t pid = fake.vmm;
	fake.was_configured = true;
	reopen(x);
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_true(alive(pid));
	assert_int_equal(fake.configures, 1);
	assert_int_equal(fake.sessions, 2);
	box_stop(x->box, 1000, on_done, x);
	wait_done(x, 1);
	assert_int_equal(info(x).status, BOX_STOPPED);
	assert_nothing_runs(x);
}

static void wait_gone(pid_t pid)
{
	for (int i = 0; i < 2000 && alive(pid); i++)
		usleep(1000);
	assert_false(alive(pid));
}

static void finds_the_end_of_what_ran(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	char id[32];
	snprintf(id, sizeof id, "%s", info(x).id);
	static const struct {
		int signo;
		enum box_status then;
	} ways[] = {{SIGUSR1, BOX_STOPPED}, {SIGTERM, BOX_STOPPED}, {SIGKILL, BOX_FAILED}};
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		start(x);
		close_all(x);
		kill(fake.vmm, ways[i].signo);
		wait_gone(fake.vmm);
		int sessions = fake.sessions;
		fake.silent = true;
		open_all(x);
		fake.silent = false;
		x->box = boxes_find(x->boxes, "p", id);
		assert_int_equal(info(x).status, ways[i].then);
		/* Its executions were told by a session made for that. */
		assert_int_equal(fake.sessions, sessions + 1);
		assert_string_not_equal(fake.reason, "-");
		assert_nothing_runs(x);
	}
}

/* tenond is let go at every turn of a start. */
static void any_crash_is_repaired(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	fake.silent = true;
	for (int turns = 0; turns < 40; turns++) {
		box_start(x->box, on_done, x);
		for (int i = 0; i < turns; i++)
			uv_run(&x->loop, UV_RUN_ONCE);
		reopen(x);
		assert_in_range(info(x).status, BOX_STOPPED, BOX_STOPPED);
		vmm_pid(x);
		assert_nothing_runs(x);
		unlink(in_state(x, "pid"));
		x->done = x->failed = 0;
	}
}

static void sweeps_what_has_no_row(void **state)
{
	struct bench *x = *state;
	char path[256], other[128];
	add(x, NULL);
	snprintf(path, sizeof path, "mkdir -p %s/boxes/01ARYZ6S41000G40R40M30E209/executions/a %s/boxes/mine",
		 x->dir, x->dir);
	assert_int_equal(system(path), 0);
	reopen(x);
	snprintf(path, sizeof path, "%s/boxes/01ARYZ6S41000G40R40M30E209", x->dir);
	snprintf(other, sizeof other, "%s/boxes/mine", x->dir);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(other, F_OK), 0);
}

/* ---- volumes ------------------------------------------------------------------------------------------ */

static void on_volume(void *arg, const struct volume_info *v, int status, const struct err *e)
{
	struct bench *x = arg;
	(void)v;
	(void)e;
	assert_int_equal(status, 0);
	x->done++;
}

/* A box of this name with these mounts; its failure, if there is one, is in x. */
static void add_with(struct bench *x, const char *name, struct volume_mount *mounts, size_t n)
{
	struct box_settings settings = {.volumes = mounts, .n_volumes = n};
	struct box_spec spec = {.prefix = "p", .name = name, .auto_resume = true, .settings = &settings};
	x->failed = 0;
	boxes_add(x->boxes, &spec, on_done, x);
	wait_done(x, 1);
}

static void add_volumes(struct bench *x)
{
	volumes_add(x->volumes, "p", "one", on_volume, x);
	volumes_add(x->volumes, "p", "two", on_volume, x);
	volumes_add(x->volumes, "q", "foreign", on_volume, x);
	wait_done(x, 3);
}

static void volumes_of_a_box_are_found_or_refused(void **state)
{
	struct bench *x = *state;
	add_volumes(x);
	struct volume_info one;
	assert_true(volumes_find(x->volumes, "p", "one", &one));
	char *id = strdup(one.id);
	struct volume_mount nobody = {"three", "/a", false}, foreign = {"foreign", "/a", false},
			    twice[] = {{"one", "/a", false}, {id, "/b", true}};
	add_with(x, NULL, &nobody, 1);
	assert_int_equal(x->failure.kind, FAIL_NOT_FOUND);
	assert_string_equal(x->failure.field, "create.volumes");
	add_with(x, NULL, &foreign, 1);
	assert_int_equal(x->failure.kind, FAIL_NOT_FOUND);
	add_with(x, NULL, twice, 2);
	assert_int_equal(x->failure.kind, FAIL_INVALID);
	assert_null(x->box);
	assert_null(boxes_volume_user(x->boxes, id));

	struct volume_mount many[BOX_VOLUMES_MAX + 1];
	for (size_t i = 0; i <= BOX_VOLUMES_MAX; i++)
		many[i] = (struct volume_mount){"one", "/a", true};
	add_with(x, NULL, many, BOX_VOLUMES_MAX + 1);
	assert_int_equal(x->failure.kind, FAIL_INVALID);
	free(id);
}

static void volumes_become_disks_and_mounts(void **state)
{
	struct bench *x = *state;
	char args[4096] = "", disk[512];
	add_volumes(x);
	struct volume_mount mounts[] = {{"two", "/b", true}, {"one", "/b/a", false}};
	add_with(x, "box", mounts, 2);
	start(x);
	assert_int_equal(x->failed, 0);
	assert_string_equal(fake.mounts, "vdc at /b read-only, vdd at /b/a, ");
	FILE *f = fopen(in_state(x, "args"), "r");
	assert_non_null(f);
	assert_non_null(fgets(args, sizeof args, f));
	fclose(f);
	for (int i = 0; i < 2; i++) {
		struct volume_info v;
		assert_true(volumes_find(x->volumes, "p", i ? "one" : "two", &v));
		assert_true(v.used_ms > 0);
		assert_string_equal(boxes_volume_user(x->boxes, v.id), "box");
		snprintf(disk, sizeof disk, " --disk %s/volumes/%s.img,format=raw,readonly=%s", x->dir, v.id,
			 i ? "off" : "on");
		if (!strstr(args, disk))
			fail_msg("no %s in %s", disk, args);
	}
	/* What the guest has in its cache belongs to the volume: even a forced end is asked for. */
	box_delete(x->box, true, on_done, x);
	wait_done(x, 1);
	assert_int_equal(fake.shutdowns, 1);
	snprintf(disk, sizeof disk, "%s/volumes", x->dir);
	assert_int_equal(entries(disk), 3);
}

/* Whether a start of it fails since the other runs. */
static bool is_refused(struct bench *x, struct box *b)
{
	x->failed = 0;
	box_start(b, on_done, x);
	wait_done(x, 1);
	if (!x->failed)
		return false;
	assert_int_equal(x->failure.kind, FAIL_CONFLICT);
	assert_non_null(strstr(x->failure.message, "box writer"));
	return true;
}

static void a_writer_has_a_volume_alone(void **state)
{
	struct bench *x = *state;
	add_volumes(x);
	struct volume_mount rw = {"one", "/a", false}, ro = {"one", "/b", true};
	struct box *reader[2], *writer;
	for (int i = 0; i < 2; i++) {
		add_with(x, i ? "reader1" : "reader0", &ro, 1);
		reader[i] = x->box;
	}
	add_with(x, "writer", &rw, 1);
	writer = x->box;
	start(x);
	assert_true(is_refused(x, reader[0]));

	/* The next tenond knows it, too. */
	fake.was_configured = true;
	reopen(x);
	fake.was_configured = false;
	writer = x->box;
	for (int i = 0; i < 2; i++)
		reader[i] = boxes_find(x->boxes, "p", i ? "reader1" : "reader0");
	assert_true(is_refused(x, reader[0]));

	/* Who came while it was stopping is told, too, when another was faster. */
	box_stop(writer, 100, on_done, x);
	wait_done(x, 1);
	assert_false(is_refused(x, reader[0]));
	assert_false(is_refused(x, reader[1]));
	x->failed = 0;
	box_start(writer, on_done, x);
	wait_done(x, 1);
	assert_int_equal(x->failed, 1);
	assert_non_null(strstr(x->failure.message, "box reader0"));
	for (int i = 0; i < 2; i++) {
		x->box = reader[i];
		vmm_pid(x);
		box_stop(reader[i], 100, on_done, x);
		wait_done(x, 1);
	}
}

/* A tenond that was killed in the middle of a stop: the next one ends it in order, too. */
static void a_writer_is_stopped_in_order_after_a_crash(void **state)
{
	struct bench *x = *state;
	add_volumes(x);
	struct volume_mount rw = {"one", "/a", false};
	add_with(x, "writer", &rw, 1);
	start(x);
	fake.ignore_stop = true;
	box_stop(x->box, 1000, on_done, x);
	wait_status(x, BOX_STOPPING);
	fake.ignore_stop = false;
	fake.was_configured = true;
	reopen(x);
	wait_status(x, BOX_STOPPED);
	assert_int_equal(fake.shutdowns, 2);
	assert_string_equal(fake.reason, "the guest shut down");
	assert_nothing_runs(x);
}

static void a_volume_whose_disk_is_gone_is_named(void **state)
{
	struct bench *x = *state;
	add_volumes(x);
	struct volume_mount m = {"one", "/a", false};
	add_with(x, NULL, &m, 1);
	free(x->box->row.settings.volumes[0].volume);
	x->box->row.settings.volumes[0].volume = strdup("vol_elsewhere");
	failing_start(x, "volume vol_elsewhere");
}

/* ---- auto_stop, auto_delete, auto_resume --------------------------------------------------------------- */

static void add_timed(struct bench *x, int64_t auto_stop, int64_t auto_delete, bool auto_resume)
{
	struct box_spec spec = {.prefix = "p",
				.auto_stop = auto_stop,
				.auto_delete = auto_delete,
				.auto_resume = auto_resume};
	boxes_add(x->boxes, &spec, on_done, x);
	wait_done(x, 1);
}

/* As if nothing had been done with it for that long. */
static void let_pass(struct bench *x, uint64_t ms)
{
	x->box->used_ms -= ms;
	boxes_attend(x->boxes);
}

static void exec_in_box(struct bench *x)
{
	static const char *const argv[] = {"true", NULL};
	struct exec_spec spec = {.argv = argv};
	box_exec(x->box, &spec, (execution_started_fn)(void *)on_done, x);
}

static void an_idle_box_is_stopped(void **state)
{
	struct bench *x = *state;
	add_timed(x, 1, 0, true);
	start(x);
	uint64_t began = uv_hrtime();
	wait_status(x, BOX_STOPPED);
	assert_true((uv_hrtime() - began) / 1000000 > 900);
	assert_int_equal(fake.shutdowns, 1); /* in order */
	assert_string_equal(info(x).error, "");
}

static void what_is_in_use_is_not_stopped(void **state)
{
	struct bench *x = *state;
	add_timed(x, 100, 0, true);
	start(x);
	fake.running = 1;
	let_pass(x, 1000000);
	assert_int_equal(x->box->row.life.status, BOX_RUNNING);
	/* From the end of the last command on. */
	fake.running = 0;
	fake.idle_ms = clock_ms(CLOCK_MONOTONIC) - 99000;
	let_pass(x, 0);
	assert_int_equal(x->box->row.life.status, BOX_RUNNING);

	struct box_use use = {0};
	box_use_begin(x->box, &use);
	fake.idle_ms = 1;
	let_pass(x, 1000000);
	assert_int_equal(x->box->row.life.status, BOX_RUNNING);
	box_use_end(&use);
	let_pass(x, 99000);
	assert_int_equal(x->box->row.life.status, BOX_RUNNING);
	let_pass(x, 2000);
	assert_int_equal(x->box->row.life.status, BOX_STOPPING);
	wait_status(x, BOX_STOPPED);
}

/* What asks for numbers neither stops a box nor keeps it. */
static void metrics_are_no_use(void **state)
{
	struct bench *x = *state;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	add_timed(x, 100, 0, true);
	start(x);
	x->box->used_ms -= 99000;
	uint64_t used = x->box->used_ms;
	struct box_bulk *numbers = box_bulk(x->box, &req, false, on_adopted, x);
	assert_int_equal(x->box->used_ms, used);
	let_pass(x, 2000);
	assert_int_equal(x->box->row.life.status, BOX_STOPPING);
	box_bulk_close(numbers);
	wait_status(x, BOX_STOPPED);

	start(x);
	struct box_bulk *file = box_bulk(x->box, &req, true, on_adopted, x);
	let_pass(x, 1000000);
	assert_int_equal(x->box->row.life.status, BOX_RUNNING);
	box_bulk_close(file);
	let_pass(x, 101000);
	wait_status(x, BOX_STOPPED);
}

static void a_transfer_may_outlive_its_box(void **state)
{
	struct bench *x = *state;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	add_timed(x, 100, 0, true);
	start(x);
	struct box_bulk *file = box_bulk(x->box, &req, true, on_adopted, x);
	box_delete(x->box, true, on_done, x);
	wait_done(x, 1);
	box_bulk_close(file);
}

/* A command that comes at any turn of the stop finds the box running, or starts it again. */
static void a_command_is_not_lost_to_an_idle_stop(void **state)
{
	struct bench *x = *state;
	add_timed(x, 100, 0, true);
	for (int turns = 0; turns < 40; turns++) {
		start(x);
		int before = fake.execs, shutdowns = fake.shutdowns;
		let_pass(x, 101000);
		assert_int_equal(fake.shutdowns, shutdowns + 1);
		for (int i = 0; i < turns && info(x).status != BOX_STOPPED; i++)
			uv_run(&x->loop, UV_RUN_ONCE);
		exec_in_box(x);
		wait_done(x, 1);
		assert_int_equal(x->failed, 0);
		assert_int_equal(fake.execs, before + 1);
		assert_int_equal(info(x).status, BOX_RUNNING);
		/* And one that came just before is what keeps it. */
		vmm_pid(x);
		x->box->used_ms -= 1000000;
		exec_in_box(x);
		boxes_attend(x->boxes);
		wait_done(x, 1);
		assert_int_equal(x->box->row.life.status, BOX_RUNNING);
	}
}

static void a_stopped_box_that_may_not_resume(void **state)
{
	struct bench *x = *state;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	struct box_bulk_item item;
	add_timed(x, 100, 0, false);
	/* One that has never run is started all the same. */
	exec_in_box(x);
	wait_done(x, 1);
	assert_int_equal(x->failed, 0);
	vmm_pid(x);
	let_pass(x, 101000);
	/* While it stops and when it has. */
	for (int i = 0; i < 2; i++) {
		x->failed = 0;
		exec_in_box(x);
		wait_done(x, 1);
		assert_int_equal(x->failed, 1);
		assert_int_equal(x->failure.kind, FAIL_CONFLICT);
		struct box_bulk *file = box_bulk(x->box, &req, true, on_adopted, x);
		box_bulk_next(file, 0, &item);
		assert_int_equal(item.kind, BULK_FAILED);
		assert_int_equal(item.failure.kind, FAIL_CONFLICT);
		box_bulk_close(file);
		wait_status(x, BOX_STOPPED);
	}
	start(x);
	assert_int_equal(info(x).status, BOX_RUNNING);
}

static void stop(struct bench *x)
{
	box_stop(x->box, 100, on_done, x);
	wait_done(x, 1);
}

static bool is_gone(struct bench *x)
{
	return boxes_count(x->boxes, "p") == 0;
}

static void wait_box_gone(struct bench *x)
{
	uv_timer_t guard;
	uv_timer_init(&x->loop, &guard);
	uv_timer_start(&guard, stop_loop, 20000, 0);
	while (!is_gone(x))
		uv_run(&x->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&x->loop, UV_RUN_NOWAIT);
}

static void a_stopped_box_is_deleted(void **state)
{
	struct bench *x = *state;
	add_timed(x, 0, 1, true);
	uint64_t began = uv_hrtime();
	boxes_attend(x->boxes); /* one that has not run is not stopped */
	start(x);
	stop(x);
	wait_box_gone(x);
	assert_true((uv_hrtime() - began) / 1000000 > 900);
	assert_int_equal(fake.forgotten, 1);
}

static int make_older(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	return sql_exec(db, "UPDATE boxes SET updated_ms = updated_ms - 101000", e);
}

/* Counted from its stop, whatever became of tenond. */
static void a_deletion_is_due_after_a_restart(void **state)
{
	struct bench *x = *state;
	add_timed(x, 0, 100, true);
	start(x);
	stop(x);
	reopen(x);
	assert_false(is_gone(x));
	assert_int_equal(store_run(x->store, make_older, NULL, NULL), 0);
	close_all(x);
	open_all(x);
	wait_box_gone(x);
}

static void a_start_keeps_a_box_that_would_go(void **state)
{
	struct bench *x = *state;
	add_timed(x, 0, 100, true);
	for (int turns = 0; turns < 20; turns++) {
		start(x);
		stop(x);
		x->box->told.updated_ms -= 99000;
		boxes_attend(x->boxes);
		box_start(x->box, on_done, x);
		x->box->told.updated_ms -= 2000;
		for (int i = 0; i < turns; i++)
			uv_run(&x->loop, UV_RUN_NOWAIT);
		boxes_attend(x->boxes);
		wait_done(x, 1);
		assert_int_equal(x->failed, 0);
		vmm_pid(x);
	}
}

/* An adopted box begins its idle time anew, and then it ends as another's does. */
static void an_adopted_box_is_stopped(void **state)
{
	struct bench *x = *state;
	add_timed(x, 1, 0, true);
	start(x);
	fake.was_configured = true;
	reopen(x);
	assert_int_equal(info(x).status, BOX_RUNNING);
	wait_status(x, BOX_STOPPED);
}

static int name_next(sqlite3 *db, void *arg, struct err *e)
{
	(void)arg;
	int r = sql_exec(db, "INSERT INTO layers SELECT '01ARZ3NDEKTSV4RRFFQ69G5FAV', disk, 0 FROM boxes", e);
	return r < 0 ? r : sql_exec(db, "UPDATE boxes SET disk_next = '01ARZ3NDEKTSV4RRFFQ69G5FAV'", e);
}

/* tenond died in the middle of a snapshot, and QEMU does not say what came of it: nobody answers at vmm.sock.
 */
static void an_adopted_box_is_thawed(void **state)
{
	struct bench *x = *state;
	add(x, NULL);
	start(x);
	assert_int_equal(store_run(x->store, name_next, NULL, NULL), 0);
	fake.was_configured = fake.frozen = true;
	fake.unheard = 3;
	reopen(x);
	exec_in_box(x);
	wait_done(x, 1);
	assert_int_equal(x->failed, 0);
	assert_int_equal(fake.execs, 1);
}

/* One byte more than tenon-vmm takes, and its sockets would fail at each start instead. */
static void runtime_dir_leaves_room_for_sockets(void **state)
{
	struct bench *x = *state;
	char run[80];
	for (size_t len = 58; len <= 59; len++) {
		struct boxes *boxes = NULL;
		struct err e = {0};
		snprintf(run, sizeof run, "%s/%0*d", x->dir, (int)(len - strlen(x->dir) - 1), 0);
		struct boxes_config c = {.loop = &x->loop,
					 .store = x->store,
					 .state_dir = x->dir,
					 .runtime_dir = run,
					 .vmm_path = x->vmm,
					 .kernel = "/k",
					 .initrd = x->initrd,
					 .images_dir = x->images,
					 .accel = "tcg",
					 .machine = "q35",
					 .resolv_conf = ""};
		assert_int_equal(boxes_create(&boxes, &c, &e), len <= 58 ? 0 : -ENAMETOOLONG);
		boxes_destroy(boxes);
	}
}

static void rows_survive(void **state)
{
	struct bench *x = *state;
	static const char *const env[] = {"A=\xff\xc3\x80 \"q\"\\", "EMPTY=", NULL};
	struct box_spec spec = {.prefix = "p",
				.name = "all",
				.cpus = 2,
				.memory_mib = 333,
				.disk_size_gb = 7,
				.env = env,
				.working_dir = "/w",
				.auto_stop = 900,
				.auto_delete = -1,
				.labels_json = "{\"a\":\"b\"}"};
	boxes_add(x->boxes, &spec, on_done, x);
	wait_done(x, 1);
	struct box_info before = info(x);
	int64_t created = before.created_ms;
	reopen(x);
	struct box_info i = info(x);
	assert_string_equal(i.name, "all");
	assert_int_equal(i.cpus, 2);
	assert_int_equal(i.memory_mib, 333);
	assert_int_equal(i.disk_size_gb, 7);
	assert_int_equal(i.auto_stop, 900);
	assert_int_equal(i.auto_delete, -1);
	assert_int_equal(i.created_ms, created);
	assert_string_equal(i.labels_json, "{\"a\":\"b\"}");
	start(x);
	assert_memory_equal(fake.env, env[0], strlen(env[0]));
	assert_string_equal(fake.env + strlen(env[0]), " EMPTY=");
}

/* ---- the main command ------------------------------------------------------------------------------ */

static void add_with_main(struct bench *x, bool auto_remove)
{
	static char *cmd[] = {"main", NULL};
	const struct box_settings settings = {.cmd = cmd};
	struct box_spec spec = {.prefix = "p",
				.auto_resume = true,
				.auto_remove = auto_remove,
				.working_dir = "/srv",
				.settings = &settings};
	boxes_add(x->boxes, &spec, on_done, x);
	wait_done(x, 1);
}

static void on_main(void *arg, struct execution *x, const struct failure *f)
{
	struct bench *bench = arg;
	bench->done++;
	bench->failed += !x;
	if (f)
		bench->failure = *f;
}

static void its_main_command_runs_with_it(void **state)
{
	struct bench *x = *state;
	add_with_main(x, false);
	assert_null(info(x).main_id);
	for (int n = 1; n <= 2; n++) {
		start(x);
		assert_int_equal(fake.execs, n);
		assert_string_equal(fake.env, "main in /srv");
		assert_string_equal(info(x).main_id, execution_id(&main_x));
		assert_false(info(x).has_exit);
		end_main(n);
		wait_status(x, BOX_STOPPED);
		assert_true(info(x).has_exit);
		assert_int_equal(info(x).exit_code, n);
		assert_nothing_runs(x);
	}
	/* Whoever attaches now is shown the last run. */
	box_main(x->box, on_main, x);
	wait_done(x, 1);
	assert_int_equal(x->failed, 0);
	assert_int_equal(fake.execs, 2);
	fake.main_reaped = true;
	box_main(x->box, on_main, x);
	assert_int_equal(x->failure.kind, FAIL_GONE);
	x->done = x->failed = 0;
	reopen(x);
	assert_int_equal(info(x).exit_code, 2);
}

static void attaching_starts_a_new_box(void **state)
{
	struct bench *x = *state;
	add_with_main(x, false);
	box_main(x->box, on_main, x);
	wait_done(x, 1);
	assert_int_equal(x->failed, 0);
	assert_int_equal(info(x).status, BOX_RUNNING);
	vmm_pid(x);
	add(x, "idle");
	box_main(x->box, on_main, x);
	assert_int_equal(x->failure.kind, FAIL_CONFLICT);
	x->done = x->failed = 0;
}

static void a_main_command_that_cannot_start(void **state)
{
	struct bench *x = *state;
	struct failure none = {
		.kind = FAIL_EXEC, .stage = "execve", .errnum = ENOENT, .message = "execve: no such file"};
	add_with_main(x, true);
	fake.no_main = &none;
	start(x);
	assert_int_equal(x->failed, 1);
	assert_int_equal(x->failure.kind, FAIL_EXEC);
	assert_int_equal(x->failure.errnum, ENOENT);
	assert_non_null(strstr(x->failure.message, "main command"));
	/* It stays, so that somebody can read why. */
	assert_int_equal(info(x).status, BOX_FAILED);
	assert_non_null(strstr(info(x).error, "no such file"));
	assert_int_equal(info(x).exit_code, 127);
	fake.no_main = NULL;
	x->failed = 0;
	start(x);
	assert_int_equal(x->failed, 0);
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_false(info(x).has_exit);
}

static void auto_remove_follows_its_main_command(void **state)
{
	struct bench *x = *state;
	char id[32];
	add_with_main(x, true);
	start(x);
	snprintf(id, sizeof id, "%s", info(x).id);
	end_main(0);
	uv_timer_t guard; /* also what keeps the loop turning until the store answers */
	uv_timer_init(&x->loop, &guard);
	uv_timer_start(&guard, stop_loop, 20000, 0);
	while (boxes_find_id(x->boxes, id))
		uv_run(&x->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&x->loop, UV_RUN_NOWAIT);
	assert_nothing_runs(x);
}

static void a_use_that_started_the_box_is_not_cut_off(void **state)
{
	struct bench *x = *state;
	const char *const argv[] = {"ls", NULL};
	const struct exec_spec spec = {.argv = argv};
	add_with_main(x, false);
	box_exec(x->box, &spec, on_main, x);
	wait_done(x, 1);
	vmm_pid(x);
	x->failed = 0;
	fake.running = 1;
	end_main(0);
	let_pass(x, 1000000);
	assert_int_equal(x->box->row.life.status, BOX_RUNNING);
	fake.running = 0;
	wait_status(x, BOX_STOPPED);
	/* A box that was started for itself ends with its command, whatever else runs. */
	start(x);
	fake.running = 1;
	end_main(0);
	wait_status(x, BOX_STOPPED);
	fake.running = 0;
}

static void keep_first(void *arg, struct box *b)
{
	((struct bench *)arg)->box = b;
}

static void open_again(struct bench *x)
{
	open_all(x);
	boxes_each(x->boxes, "p", keep_first, x);
}

static void a_new_tenond_finds_the_main_command(void **state)
{
	struct bench *x = *state;
	add_with_main(x, false);
	start(x);
	fake.was_configured = true;
	reopen(x);
	assert_int_equal(info(x).status, BOX_RUNNING);
	assert_string_equal(info(x).main_id, execution_id(&main_x));
	assert_int_equal(fake.execs, 1);
	end_main(5);
	wait_status(x, BOX_STOPPED);
	assert_int_equal(info(x).exit_code, 5);

	/* It ended between the two, and the box did not yet. */
	start(x);
	close_all(x);
	main_x.ended = true;
	main_x.code = 6;
	open_again(x);
	wait_status(x, BOX_STOPPED);
	assert_int_equal(info(x).exit_code, 6);
	assert_int_equal(fake.execs, 2);

	/* tenond and the VM are killed: nobody knows how it ended. */
	start(x);
	pid_t pid = fake.vmm;
	close_all(x);
	kill(pid, SIGKILL);
	wait_gone(pid);
	open_again(x);
	wait_status(x, BOX_FAILED);
	assert_int_equal(info(x).exit_code, -1);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(create_and_find, setup, teardown),
		cmocka_unit_test_setup_teardown(life, setup, teardown),
		cmocka_unit_test_setup_teardown(concurrent_starts_share_one, setup, teardown),
		cmocka_unit_test_setup_teardown(exec_starts_the_box, setup, teardown),
		cmocka_unit_test_setup_teardown(so_many_executions, setup, teardown),
		cmocka_unit_test_setup_teardown(operations_wait_for_the_link, setup, teardown),
		cmocka_unit_test_setup_teardown(starts_that_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(no_template, setup, teardown),
		cmocka_unit_test_setup_teardown(made_of_an_image, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_while_starting, setup, teardown),
		cmocka_unit_test_setup_teardown(start_while_stopping, setup, teardown),
		cmocka_unit_test_setup_teardown(stubborn_guest_is_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(adopts_what_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(finds_the_end_of_what_ran, setup, teardown),
		cmocka_unit_test_setup_teardown(any_crash_is_repaired, setup, teardown),
		cmocka_unit_test_setup_teardown(sweeps_what_has_no_row, setup, teardown),
		cmocka_unit_test_setup_teardown(runtime_dir_leaves_room_for_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(rows_survive, setup, teardown),
		cmocka_unit_test_setup_teardown(volumes_of_a_box_are_found_or_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(volumes_become_disks_and_mounts, setup, teardown),
		cmocka_unit_test_setup_teardown(a_writer_has_a_volume_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(a_writer_is_stopped_in_order_after_a_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(a_volume_whose_disk_is_gone_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(an_idle_box_is_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_in_use_is_not_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(metrics_are_no_use, setup, teardown),
		cmocka_unit_test_setup_teardown(a_transfer_may_outlive_its_box, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_is_not_lost_to_an_idle_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stopped_box_that_may_not_resume, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stopped_box_is_deleted, setup, teardown),
		cmocka_unit_test_setup_teardown(a_deletion_is_due_after_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(a_start_keeps_a_box_that_would_go, setup, teardown),
		cmocka_unit_test_setup_teardown(an_adopted_box_is_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(an_adopted_box_is_thawed, setup, teardown),
		cmocka_unit_test_setup_teardown(its_main_command_runs_with_it, setup, teardown),
		cmocka_unit_test_setup_teardown(attaching_starts_a_new_box, setup, teardown),
		cmocka_unit_test_setup_teardown(a_main_command_that_cannot_start, setup, teardown),
		cmocka_unit_test_setup_teardown(auto_remove_follows_its_main_command, setup, teardown),
		cmocka_unit_test_setup_teardown(a_use_that_started_the_box_is_not_cut_off, setup, teardown),
		cmocka_unit_test_setup_teardown(a_new_tenond_finds_the_main_command, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
