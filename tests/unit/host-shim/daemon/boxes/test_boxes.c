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

#include "host-shim/daemon/boxes/boxes.h"
#include "host-shim/daemon/boxes/process.h"
#include "host-shim/daemon/store/sql.h"

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
	bool was_configured; /* what HELLO says: an adopted box's agent is */
	int sessions, configures, shutdowns, forgotten;
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
	snprintf(fake.env, sizeof fake.env, "%.*s", c->n_env ? (int)c->env[0].len : 0,
		 c->n_env ? (char *)c->env[0].data : "");
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
	struct failure f = {.kind = FAIL_TIMEOUT, .message = "this agent freezes nothing"};
	(void)s;
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
	return 0;
}

void executions_start(struct session *s, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	(void)s;
	snprintf(fake.env, sizeof fake.env, "%s in %s", spec->argv[0], spec->cwd ? spec->cwd : "/");
	done(arg, NULL, NULL);
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
	"while [ $# -gt 0 ]; do\n"
	"	case $1 in --state-dir) state=$2;; --run-dir) run=$2;; --ready-fd) fd=$2;; --initrd) "
	"initrd=$2;; esac\n"
	"	shift\n"
	"done\n"
	"end() { echo \"{\\\"reason\\\":\\\"$1\\\",\\\"message\\\":\\\"$2\\\"}\" >$state/exit.json; exit 0; "
	"}\n"
	"trap 'end stopped' TERM; trap 'end guest_shutdown' USR1; trap 'end guest_reset' USR2\n"
	"echo $$ >$state/pid\n"
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
	char run[80];
	snprintf(run, sizeof run, "%s/run", x->dir);
	mkdir(run, 0700);
	struct boxes_config c = {.loop = &x->loop,
				 .store = x->store,
				 .state_dir = x->dir,
				 .runtime_dir = run,
				 .host_dir = x->dir,
				 .vmm_path = x->vmm,
				 .kernel = "/k",
				 .initrd = x->initrd,
				 .images_dir = x->images,
				 .accel = "auto",
				 .machine = "q35",
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
	store_close(x->store);
	uv_run(&x->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&x->loop), 0);
}

static int setup(void **state)
{
	struct bench *x = calloc(1, sizeof *x);
	memset(&fake, 0, sizeof fake);
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

	struct box_spec taken = {.prefix = "p", .name = "first"},
			foreign = {.prefix = "p", .image = "alpine"},
			small = {.prefix = "p", .memory_mib = 16}, same = {.prefix = "q", .name = "first"};
	boxes_add(x->boxes, &taken, on_done, x);
	assert_int_equal(x->failure.kind, FAIL_EXISTS);
	boxes_add(x->boxes, &foreign, on_done, x);
	assert_int_equal(x->failure.kind, FAIL_UNSUPPORTED);
	boxes_add(x->boxes, &small, on_done, x);
	assert_int_equal(x->failure.kind, FAIL_INVALID);
	/* A name is another's in another prefix. */
	boxes_add(x->boxes, &same, on_done, x);
	wait_done(x, 4);
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
					 .machine = "q35"};
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
	assert_string_equal(fake.env, env[0]);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(create_and_find, setup, teardown),
		cmocka_unit_test_setup_teardown(life, setup, teardown),
		cmocka_unit_test_setup_teardown(concurrent_starts_share_one, setup, teardown),
		cmocka_unit_test_setup_teardown(exec_starts_the_box, setup, teardown),
		cmocka_unit_test_setup_teardown(starts_that_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(no_template, setup, teardown),
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
