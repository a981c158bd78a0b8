#include "guest/exec/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/exec/check.h"
#include "guest/exec/pty.h"
#include "guest/exec/target.h"
#include "guest/log.h"
#include "proto/cleanup.h"

#define SPAWN_DEADLINE (10 * NSEC_PER_SEC)
#define GRACE_DEFAULT_MS 2000
#define RING_SPREAD_AFTER 4                /* CREDITs that found it starved */
#define START_LATE (10 * NSEC_PER_MSEC)    /* at most that a start is told of that may wait */
#define QUIET (250 * NSEC_PER_MSEC)        /* since a cgroup was given back: time to make it anew */
#define RENEWAL_PAUSE (10 * NSEC_PER_MSEC) /* between two of them */
/* A terminal that nobody holds open, and that may be opened again, says so all the time: only edges,
 * therefore. */
#define TTY_OUT_EVENTS (EPOLLIN | EPOLLET)
/* The kernel does not always say when a terminal takes input again: not after vhangup(2), nor when a worker
 * of its own makes the room a moment after it woke us. */
#define TTY_RETRY (500 * NSEC_PER_MSEC)

static struct exec_row *row_of(struct execs *x, int row)
{
	return exec_table_row(&x->table, row);
}

static int index_of(const struct exec_slot *s)
{
	return (int)(s - s->owner->slots);
}

static void tell(struct execs *x, int row, unsigned news)
{
	x->watch->news(x->watch, row, news);
}

static void arm(struct execs *x, int row, uint64_t at)
{
	row_of(x, row)->deadline = at;
	timer_set(x->loop, &x->slots[row].timer, at);
}

static void disarm(struct execs *x, int row)
{
	row_of(x, row)->deadline = 0;
	timer_clear(&x->slots[row].timer);
}

static void stop_watching(struct execs *x, struct source *s, int *fd)
{
	loop_remove(x->loop, s);
	close_fd(fd);
}

static int signal_all(struct execs *x, const struct exec_row *r, int signo)
{
	return target_signal_all(&x->table, &x->cgroups, r, signo);
}

/* ---- the state table, carried out ---- */

static void step(struct execs *x, int row, enum exec_event event);

static unsigned how_to_read(const struct exec_row *r)
{
	unsigned how = r->drop_oldest ? OUTPUT_DROP_OLDEST : 0;
	if (r->tty)
		how |= r->pid != 0 ? OUTPUT_TTY | OUTPUT_TTY_LED : OUTPUT_TTY;
	return how;
}

static void record_exit(struct execs *x, struct exec_row *r)
{
	r->exit.timed_out = r->timed_out;
	r->exit.oom_killed = cgroup_oom_kills(&x->cgroups, r->cgroup) > 0;
	r->exit.ended_real = clock_real();
	r->exit.ended_mono = clock_mono();
	for (int i = 0; i < 2; i++)
		r->exit.total[i] = exec_output_total(&r->out[i], how_to_read(r), &r->exit.open[i]);
}

/* The error pipe has ended: the child is out of our memory. */
static void end_spawn(struct execs *x, int row)
{
	struct exec_row *r = row_of(x, row);
	if (r->error_fd < 0)
		return;
	stop_watching(x, &x->slots[row].error, &r->error_fd);
	spawn_release(x->areas + (size_t)row * SPAWN_AREA, row < EXEC_WARM_ROWS);
}

static void arm_renewal(struct execs *x, uint64_t after)
{
	timer_clear(&x->renewal);
	timer_set(x->loop, &x->renewal, clock_mono() + after);
}

static void renew_cgroup(struct timer *t)
{
	struct execs *x = container_of(t, struct execs, renewal);
	if (cgroup_renew(&x->cgroups))
		arm_renewal(x, RENEWAL_PAUSE);
}

static void give_back_cgroup(struct execs *x, struct exec_row *r)
{
	if (r->cgroup < 0)
		return;
	cgroup_give_back(&x->cgroups, r->cgroup);
	r->cgroup = -1;
	arm_renewal(x, QUIET);
}

static void free_row(struct execs *x, int row)
{
	struct exec_row *r = row_of(x, row);
	struct exec_slot *s = &x->slots[row];
	disarm(x, row);
	timer_clear(&s->retry);
	stop_watching(x, &s->in, &r->in.fd);
	stop_watching(x, &s->out, &r->out[0].fd);
	stop_watching(x, &s->err, &r->out[1].fd);
	end_spawn(x, row);
	give_back_cgroup(x, r);
	r->pid = 0;
}

/* The answer to a start that did not fail by itself: the step is where it hung. */
static void give_up(struct exec_slot *s, Tenon__Code code, int errnum, const char *why)
{
	s->failure = (struct fault){.code = code};
	err_set(&s->failure.err, child_step_name((enum child_step)s->child->step), errnum, "%s", why);
}

static unsigned carry_out(struct execs *x, int row, unsigned actions, enum exec_event event)
{
	struct exec_row *r = row_of(x, row);
	struct exec_slot *s = &x->slots[row];
	unsigned news = 0;

	if (actions & EXEC_DO_LOG)
		log_line("exec: event %d in state %s", (int)event, exec_state_name(r->state));
	if (actions & EXEC_DO_FINISH_GRACE && s->timer.next)
		signal_all(x, r, SIGKILL);
	if (actions & EXEC_DO_DISARM)
		disarm(x, row);
	if (actions & EXEC_DO_TERM) {
		r->timed_out = true;
		signal_all(x, r, SIGTERM);
	}
	if (actions & EXEC_DO_KILL) {
		int sent = signal_all(x, r, SIGKILL);
		if (sent < 0 && r->pid > 0)
			kill(r->pid, SIGKILL); /* not in its session yet */
	}
	if (actions & EXEC_DO_ARM_TIMEOUT) {
		disarm(x, row); /* the spawn deadline */
		if (r->timeout_ms)
			arm(x, row, clock_mono() + r->timeout_ms * NSEC_PER_MSEC);
	}
	if (actions & EXEC_DO_ARM_GRACE) {
		uint64_t ms = r->grace_ms ? r->grace_ms : GRACE_DEFAULT_MS;
		arm(x, row, clock_mono() + ms * NSEC_PER_MSEC);
	}
	if (actions & EXEC_DO_ANSWER)
		news |= EXEC_NEWS_STARTED;
	if (actions & EXEC_DO_ANSWER_FAILED) {
		if (event == EXEC_ON_KILL)
			give_up(s, TENON__CODE__CODE_EXEC_FAILED, ECANCELED,
				"killed before the program had started");
		else
			spawn_outcome(s->child, &s->failure);
		news |= EXEC_NEWS_FAILED;
	}
	if (actions & EXEC_DO_ANSWER_TIMEOUT) {
		give_up(s, TENON__CODE__CODE_TIMEOUT, ETIMEDOUT, "the program did not start in time");
		news |= EXEC_NEWS_FAILED;
	}
	if (actions & EXEC_DO_RECORD) {
		record_exit(x, r);
		news |= EXEC_NEWS_EXIT;
	}
	if (actions & EXEC_DO_TOMBSTONE)
		exec_table_bury(&x->table, r->id);
	return news;
}

static void step(struct execs *x, int row, enum exec_event event)
{
	struct exec_row *r = row_of(x, row);
	struct exec_transition t = exec_state_step(r->state, event);
	unsigned news = carry_out(x, row, t.actions, event);
	r->state = t.next;
	if (t.next == EXEC_FREE) {
		free_row(x, row);
		news |= EXEC_NEWS_FREE;
	}
	if (news)
		tell(x, row, news);
	if (t.next != EXEC_FREE && event != EXEC_ON_DRAINED)
		execs_settle(x, row);
}

void execs_settle(struct execs *x, int row)
{
	const struct exec_row *r = row_of(x, row);
	if (exec_output_drained(&r->out[0], r->attached) && exec_output_drained(&r->out[1], r->attached))
		step(x, row, EXEC_ON_DRAINED);
}

/* ---- descriptors and deadlines ---- */

static void stop_input(struct execs *x, int row)
{
	timer_clear(&x->slots[row].retry);
	stop_watching(x, &x->slots[row].in, &row_of(x, row)->in.fd);
}

/* Nobody holds it open, and its leader is gone, who might have opened it again. */
static void hang_up(struct execs *x, int row)
{
	struct exec_row *r = row_of(x, row);
	if (r->exit.total[0] == OUTPUT_TOTAL_UNKNOWN)
		r->exit.total[0] = r->out[0].ring.end;
	if (r->in.fd < 0)
		return;
	exec_input_close(&r->in);
	stop_input(x, row);
	tell(x, row, EXEC_NEWS_INPUT);
}

/* Program and agent wake each other less often with a large pipe. On one processor that is all there is to
 * it: they take turns anyway. On two they work side by side, and what one has written should not have left
 * the caches before the other reads it: with 256 KiB an output is a quarter slower than with these. */
static int wide_pipe(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 128 * 1024 : RING_WIDE;
}

/* More of it on its way at once, here and in its pipe. */
static bool widen(struct execs *x, int row, int i)
{
	struct exec_row *r = row_of(x, row);
	if (!r->attached || !exec_output_cramped(&r->out[i]) ||
	    !exec_table_widen(&x->table, row, CHANNEL_STDOUT + i))
		return false;
	fcntl(r->out[i].fd, F_SETPIPE_SZ, wide_pipe()); /* a terminal has none to set */
	return true;
}

static void conclude_spawn(struct execs *x, int row)
{
	struct exec_slot *s = &x->slots[row];
	enum spawn_outcome outcome = spawn_outcome(s->child, &s->failure);
	step(x, row, outcome == SPAWN_STARTED ? EXEC_ON_STARTED : EXEC_ON_FAILED);
	if (row_of(x, row)->state != EXEC_FREE)
		end_spawn(x, row);
}

static void error_pipe_ready(struct source *src, uint32_t events)
{
	(void)events; /* nothing is ever written to it: it has ended */
	struct exec_slot *s = container_of(src, struct exec_slot, error);
	struct exec_row *r = row_of(s->owner, index_of(s));
	if (!s->unhurried) {
		r->started_real = clock_real();
		r->started_mono = clock_mono();
	}
	conclude_spawn(s->owner, index_of(s));
}

/* Whether it has started is asked for another reason. A start that failed is left to its reap: whoever asks
 * goes on with the row. */
static void look_at_start(struct execs *x, int row)
{
	struct pollfd error_pipe = {.fd = row_of(x, row)->error_fd};
	struct fault f;
	if (error_pipe.fd >= 0 && poll(&error_pipe, 1, 0) > 0 &&
	    spawn_outcome(x->slots[row].child, &f) == SPAWN_STARTED)
		conclude_spawn(x, row);
}

static void hurry_start(struct execs *x, int row)
{
	struct exec_slot *s = &x->slots[row];
	int fd = row_of(x, row)->error_fd;
	if (fd >= 0 && s->error.fd < 0 && loop_add(x->loop, &s->error, fd, EPOLLIN) < 0)
		timer_set(x->loop, &x->starts, clock_mono() + START_LATE);
}

static void hurry_starts(struct timer *t)
{
	struct execs *x = container_of(t, struct execs, starts);
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i))
		hurry_start(x, i);
}

static void pump_output(struct execs *x, int row, int i)
{
	struct exec_row *r = row_of(x, row);
	struct exec_output *o = &r->out[i];
	struct source *source = i == 0 ? &x->slots[row].out : &x->slots[row].err;
	bool news = false, more = !o->eof;
	while (more) {
		more = exec_output_read(o, exec_table_ring(&x->table, row, CHANNEL_STDOUT + i),
					how_to_read(r));
		news |= more;
		if (r->drop_oldest)
			break; /* it never fills: give others their turn, epoll will say so again */
		more = !o->eof && (more || widen(x, row, i));
	}
	if (o->eof) {
		stop_watching(x, source, &o->fd);
		if (r->tty && i == 0) /* a terminal's stderr has always ended */
			hang_up(x, row);
	} else if (r->tty && r->drop_oldest && o->readable) {
		loop_add(x->loop, source, o->fd, TTY_OUT_EVENTS);
	}
	if (exec_output_has_bytes(o))
		look_at_start(x, row); /* before it is told, so that it goes out with this */
	if (news)
		tell(x, row, EXEC_NEWS_OUTPUT);
}

static void output_ready(struct exec_slot *s, int i, uint32_t events)
{
	int row = index_of(s);
	struct exec_output *o = &row_of(s->owner, row)->out[i];
	o->readable = true;
	o->hung_up |= (events & (EPOLLHUP | EPOLLERR)) != 0;
	pump_output(s->owner, row, i);
	execs_settle(s->owner, row);
}

static void stdout_ready(struct source *src, uint32_t events)
{
	output_ready(container_of(src, struct exec_slot, out), 0, events);
}

static void stderr_ready(struct source *src, uint32_t events)
{
	output_ready(container_of(src, struct exec_slot, err), 1, events);
}

static void pump_input(struct execs *x, int row)
{
	struct exec_row *r = row_of(x, row);
	if (r->in.fd < 0)
		return;
	if (exec_input_write(&r->in, exec_table_ring(&x->table, row, CHANNEL_STDIN), r->tty))
		stop_input(x, row);
	else if (r->tty && exec_input_waiting(&r->in))
		timer_set(x->loop, &x->slots[row].retry, clock_mono() + TTY_RETRY);
	tell(x, row, EXEC_NEWS_INPUT);
}

static void stdin_ready(struct source *src, uint32_t events)
{
	struct exec_slot *s = container_of(src, struct exec_slot, in);
	int row = index_of(s);
	if (events & EPOLLERR)
		exec_input_close(&row_of(s->owner, row)->in);
	pump_input(s->owner, row);
}

static void retry_input(struct timer *t)
{
	struct exec_slot *s = container_of(t, struct exec_slot, retry);
	pump_input(s->owner, index_of(s));
}

/* A filter is there, or will not be: for all who wait for it and are still in our memory. */
static void filter_built(struct filters *filters, struct filter *filter, int r, const struct err *e)
{
	struct execs *x = container_of(filters, struct execs, filters);
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i)) {
		struct exec_slot *s = &x->slots[i];
		if (s->awaited != filter)
			continue;
		s->awaited = NULL;
		if (row_of(x, i)->error_fd >= 0)
			spawn_give_filter(s->child, filter, r, e);
	}
}

static void deadline(struct timer *t)
{
	struct exec_slot *s = container_of(t, struct exec_slot, timer);
	struct exec_row *r = row_of(s->owner, index_of(s));
	bool first = r->state == EXEC_SPAWNING || r->state == EXEC_RUNNING;
	r->deadline = 0;
	step(s->owner, index_of(s), first ? EXEC_ON_TIMEOUT : EXEC_ON_GRACE_OVER);
}

/* ---- what the link asks for ---- */

int execs_init(struct execs *x, struct loop *loop, struct exec_watch *watch, struct err *e)
{
	x->loop = loop;
	x->watch = watch;
	timer_init(&x->renewal, renew_cgroup);
	timer_init(&x->starts, hurry_starts);
	x->slots = memory_reserve(EXEC_ROWS * sizeof *x->slots);
	x->areas = memory_reserve_shared((size_t)EXEC_ROWS * SPAWN_AREA);
	if (!x->slots || !x->areas)
		return err_sys(e, "arena", ENOMEM, "cannot reserve memory for %d executions", EXEC_ROWS);
	int r = filters_init(&x->filters, loop, filter_built, e);
	return r < 0 ? r : exec_table_init(&x->table, e);
}

static void init_slot(struct execs *x, int row)
{
	x->slots[row] = (struct exec_slot){.owner = x,
					   .in = {-1, stdin_ready},
					   .out = {-1, stdout_ready},
					   .err = {-1, stderr_ready},
					   .error = {-1, error_pipe_ready},
					   .timer = {.fire = deadline},
					   .retry = {.fire = retry_input}};
}

static int watch_if_open(struct execs *x, struct source *s, int fd, uint32_t events)
{
	return fd < 0 ? 0 : loop_add(x->loop, s, fd, events);
}

static int watch_pipes(struct execs *x, int row)
{
	struct exec_row *r = row_of(x, row);
	struct exec_slot *s = &x->slots[row];
	/* Edges, so that a full ring or an idle stdin costs nothing; drop_oldest never leaves a pipe unread.
	 */
	uint32_t out_events = r->tty ? TTY_OUT_EVENTS : r->drop_oldest ? EPOLLIN : EPOLLIN | EPOLLET;
	return watch_if_open(x, &s->error, s->unhurried ? -1 : r->error_fd, EPOLLIN) |
	       watch_if_open(x, &s->out, r->out[0].fd, out_events) |
	       watch_if_open(x, &s->err, r->out[1].fd, out_events) |
	       watch_if_open(x, &s->in, r->in.fd, EPOLLOUT | EPOLLET);
}

/* Its descriptors may be anything but what they were: what cannot be watched has ended. */
static void end_unwatched(struct exec_slot *s, struct exec_row *r)
{
	struct source *const out[] = {&s->out, &s->err};
	for (int i = 0; i < 2; i++)
		if (out[i]->fd < 0) {
			r->out[i].fd = -1;
			r->out[i].eof = true;
		}
	if (s->in.fd < 0) {
		r->in.fd = -1;
		exec_input_close(&r->in);
	}
}

/* A row of the program before this one. False if it cannot be gone on with. */
static bool adopt(struct execs *x, int row)
{
	struct exec_row *r = row_of(x, row);
	struct err e;
	init_slot(x, row);
	if (exec_check_row(r, &e) < 0) {
		log_line("upgrade: row %d is given up: %s", row, e.msg);
		return false;
	}
	r->attached = false;
	if (r->deadline)
		timer_set(x->loop, &x->slots[row].timer, r->deadline);
	if (watch_pipes(x, row) < 0) {
		log_line("upgrade: row %d is killed: its pipes are not there", row);
		end_unwatched(&x->slots[row], r);
		step(x, row, EXEC_ON_KILL);
	}
	return true;
}

int execs_adopt(struct execs *x, int memfd, struct err *e)
{
	struct exec_table old = x->table;
	int r = exec_table_adopt(&x->table, memfd, true, e);
	if (r < 0)
		return r;
	exec_table_finish(&old);
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i)) {
		/* FREE: it had only its failure still to tell. */
		if (row_of(x, i)->state == EXEC_FREE || !adopt(x, i))
			exec_table_release(&x->table, i);
		else if (row_of(x, i)->state != EXEC_FREE)
			execs_settle(x, i); /* it may have waited for its EOF frames alone */
	}
	return 0;
}

/* A filter that is there is copied at once, so that nothing keeps it from being evicted. */
static int find_filter(struct execs *x, struct exec_slot *s, const Tenon__Exec *req, struct fault *f)
{
	const struct confine *given = &s->child->given;
	if (given->filter == CONFINE_NO_FILTER)
		return 0;
	struct filter *filter;
	int r = filters_want(&x->filters, given->filter == CONFINE_RULES ? req->seccomp->rules : NULL,
			     given->caps, &filter, f);
	if (r < 0)
		return r;
	if (filter->state == FILTER_READY)
		spawn_give_filter(s->child, filter, 0, NULL);
	else
		s->awaited = filter;
	return 0;
}

int execs_start(struct execs *x, const Tenon__Exec *req, struct fault *f)
{
	int row = exec_table_take(&x->table, req->id.data);
	if (row < 0)
		return fault_exhausted(f, NULL, "%d executions are kept already", EXEC_ROWS);
	struct exec_row *r = row_of(x, row);
	struct exec_slot *s = &x->slots[row];
	void *area = x->areas + (size_t)row * SPAWN_AREA;
	init_slot(x, row);

	struct spawn_pipes pipes;
	int e = spawn_prepare(area, req, &x->base, &s->child, f);
	if (e == 0)
		e = find_filter(x, s, req, f);
	if (e == 0)
		e = cgroup_take(&x->cgroups, &s->child->given.resources, &r->cgroup, f);
	if (e < 0) {
		spawn_release(area, false);
		exec_table_release(&x->table, row);
		return e;
	}
	if (r->cgroup >= 0)
		r->used_before = x->cgroups.before[r->cgroup];
	pid_t pid = spawn_start(area, s->child, req, &x->base, cgroup_dir(&x->cgroups, r->cgroup), &pipes, f);
	if (pid < 0) {
		give_back_cgroup(x, r);
		spawn_release(area, row < EXEC_WARM_ROWS);
		exec_table_release(&x->table, row);
		return pid;
	}

	r->state = EXEC_SPAWNING;
	r->pid = r->session = pid;
	r->started_real = clock_real();
	r->started_mono = clock_mono();
	r->timeout_ms = req->timeout_ms;
	r->grace_ms = req->grace_ms;
	r->drop_oldest = req->ring_policy == TENON__RING_POLICY__RING_DROP_OLDEST;
	r->tty = req->tty != NULL;
	r->error_fd = pipes.error;
	exec_input_init(&r->in, pipes.in);
	r->out[0].fd = pipes.out;
	r->out[1].fd = pipes.err;
	r->out[1].eof = r->tty;
	r->out[0].limit = req->stdout_limit;
	r->out[1].limit = req->stderr_limit;
	r->attached = true;
	arm(x, row, clock_mono() + SPAWN_DEADLINE);
	/* Most commands that are only waited for are over before anybody had to know that they had started:
	 * that saves a wakeup. */
	s->unhurried = req->answer_late && !s->awaited;
	if (s->unhurried && !x->starts.next)
		timer_set(x->loop, &x->starts, clock_mono() + START_LATE);
	if (watch_pipes(x, row) < 0)
		step(x, row, EXEC_ON_KILL);
	return row;
}

int execs_attach(struct execs *x, int row, const struct exec_window windows[2], struct fault *f)
{
	static const char *const end_field[2] = {"attach.stdout_end", "attach.stderr_end"};
	static const char *const limit_field[2] = {"attach.stdout_limit", "attach.stderr_limit"};
	struct exec_row *r = row_of(x, row);
	for (int i = 0; i < 2; i++) {
		if (windows[i].limit >= WIRE_OFFSET_END || windows[i].limit < windows[i].end)
			return fault_invalid(f, limit_field[i], "is below the host's end or beyond 2^62");
		if (windows[i].end > r->out[i].ring.end) {
			fault_code(f, TENON__CODE__CODE_OUT_OF_RANGE,
				   "the host claims more than the process wrote");
			f->field = end_field[i];
			return -ERANGE;
		}
	}
	r->attached = true;
	hurry_start(x, row);
	for (int i = 0; i < 2; i++) {
		exec_output_attach(&r->out[i], windows[i].end, windows[i].limit);
		pump_output(x, row, i);
	}
	return 0;
}

void execs_detach(struct execs *x, int row)
{
	row_of(x, row)->attached = false;
	execs_settle(x, row);
}

int execs_credit(struct execs *x, int row, enum frame_channel c, uint64_t acked, uint64_t limit)
{
	int i = c - CHANNEL_STDOUT;
	struct exec_output *o = &row_of(x, row)->out[i];
	int e = exec_output_credit(o, acked, limit);
	if (e < 0)
		return e;
	/* It is acknowledged too late for what it may hold: now and then is chance, in a row it is a host
	 * with a log. */
	if (o->starved >= RING_SPREAD_AFTER && o->ring.wide && !o->ring.whole)
		ring_spread(&o->ring, exec_table_ring(&x->table, row, c));
	pump_output(x, row, i);
	if (o->eof && ring_used(&o->ring) == 0)
		exec_table_narrow(&x->table, row, c); /* the row may be kept for long */
	tell(x, row, EXEC_NEWS_OUTPUT);
	execs_settle(x, row);
	return 0;
}

int execs_input(struct execs *x, int row, uint64_t offset, const uint8_t *bytes, size_t n)
{
	uint8_t *mem = exec_table_ring(&x->table, row, CHANNEL_STDIN);
	int e = exec_input_put(&row_of(x, row)->in, mem, offset, bytes, n);
	if (e == 0)
		pump_input(x, row);
	return e;
}

int execs_input_end(struct execs *x, int row, uint64_t total)
{
	int e = exec_input_end(&row_of(x, row)->in, total);
	if (e == 0)
		pump_input(x, row);
	return e;
}

int execs_ack(struct execs *x, int row, struct fault *f)
{
	enum exec_state state = row_of(x, row)->state;
	if (exec_state_step(state, EXEC_ON_ACK).actions & EXEC_DO_REFUSE)
		return fault_invalid(f, "exec_ack.id", "the execution is %s: it has not ended",
				     exec_state_name(state));
	step(x, row, EXEC_ON_ACK);
	return 0;
}

int execs_signal(struct execs *x, int row, int signo, Tenon__Target target, struct fault *f)
{
	struct exec_row *r = row_of(x, row);
	look_at_start(x, row);
	if (target == TENON__TARGET__TARGET_ALL && signo == SIGKILL) {
		step(x, row, EXEC_ON_KILL);
		return 0;
	}
	int e = target_signal(&x->table, &x->cgroups, r, signo, target);
	if (e == -ESRCH)
		return fault_code(f, TENON__CODE__CODE_NOT_FOUND, "no process left that the signal is for");
	if (e < 0) {
		*f = (struct fault){.code = TENON__CODE__CODE_INTERNAL};
		return err_sys(&f->err, "kill", -e, "signal %d", signo);
	}
	return 0;
}

int execs_resize(struct execs *x, int row, const Tenon__Tty *asked, struct fault *f)
{
	const struct exec_row *r = row_of(x, row);
	struct winsize size;
	if (!r->tty)
		return fault_invalid(f, "resize.id", "the execution has no terminal");
	int e = pty_size(asked, "resize.size.rows", "resize.size.cols", &size, f);
	if (e < 0)
		return e;
	if (r->out[0].fd < 0)
		return fault_code(f, TENON__CODE__CODE_NOT_FOUND, "the terminal is gone");
	e = pty_resize(r->out[0].fd, &size);
	if (e < 0) {
		*f = (struct fault){.code = TENON__CODE__CODE_INTERNAL};
		return err_sys(&f->err, "resize", -e, "TIOCSWINSZ");
	}
	return 0;
}

/* What the pipes hold at the reap is read as far as the rings take it: mostly that is all, end included. */
static void read_tail(struct execs *x, int row)
{
	for (int i = 0; i < 2; i++) {
		row_of(x, row)->out[i].readable = true;
		pump_output(x, row, i);
		if (row_of(x, row)->out[i].eof)
			continue;
		row_of(x, row)->out[i].readable = true;
		pump_output(x, row, i);
	}
}

bool execs_reaped(struct execs *x, pid_t pid, int status, const struct rusage *ru)
{
	int row = exec_table_find_pid(&x->table, pid);
	if (row < 0)
		return false;
	struct exec_row *r = row_of(x, row);
	if (r->state == EXEC_SPAWNING &&
	    spawn_outcome(x->slots[row].child, &x->slots[row].failure) == SPAWN_STARTED)
		conclude_spawn(x, row);

	r->pid = 0;
	r->exit.status = status;
	r->exit.user_us = (uint64_t)ru->ru_utime.tv_sec * 1000000 + (uint64_t)ru->ru_utime.tv_usec;
	r->exit.system_us = (uint64_t)ru->ru_stime.tv_sec * 1000000 + (uint64_t)ru->ru_stime.tv_usec;
	r->exit.max_rss_kib = (uint64_t)ru->ru_maxrss;
	r->exit.minor_faults = (uint64_t)ru->ru_minflt;
	r->exit.major_faults = (uint64_t)ru->ru_majflt;
	read_tail(x, row);
	step(x, row, EXEC_ON_CHILD_EXIT);
	return true;
}

void execs_signal_all(struct execs *x, int signo)
{
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i))
		signal_all(x, row_of(x, i), signo);
}

bool execs_pending(const struct execs *x)
{
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i)) {
		enum exec_state s = exec_table_row(&x->table, i)->state;
		if (s != EXEC_FREE && s != EXEC_ACKED)
			return true;
	}
	return false;
}

bool execs_starting(const struct execs *x)
{
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i))
		if (exec_table_row(&x->table, i)->state == EXEC_SPAWNING)
			return true;
	return false;
}

bool execs_share_memory(const struct execs *x)
{
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i)) {
		enum exec_state s = exec_table_row(&x->table, i)->state;
		if (s == EXEC_SPAWNING || s == EXEC_ABORTED)
			return true;
	}
	return false;
}

bool execs_have_session(struct execs *x, pid_t session)
{
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i)) {
		const struct exec_row *r = row_of(x, i);
		if (r->state != EXEC_FREE && r->session == session &&
		    !target_session_is_anothers(&x->table, r))
			return true;
	}
	return false;
}

const uint8_t *execs_in_cgroup(const struct execs *x, int cg)
{
	for (int i = exec_table_next(&x->table, -1); i >= 0; i = exec_table_next(&x->table, i))
		if (exec_table_row(&x->table, i)->cgroup == cg)
			return exec_table_row(&x->table, i)->id;
	return NULL;
}

const struct fault *execs_failure(const struct execs *x, int row)
{
	return &x->slots[row].failure;
}

void execs_release(struct execs *x, int row)
{
	exec_table_release(&x->table, row);
}
