/* What clients ask of an execution: start, signal, kill, stdin, facts. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "host-shim/daemon/executions/registry.h"
#include "host-shim/daemon/executions/session.h"

#define INPUT_CALL_MAX (1u << 20)

struct start {
	struct execution *execution;
	uv_timer_t deadline;
	execution_started_fn done;
	void *arg;
	Tenon__Exec *exec; /* until the agent has answered */
};

/* ---- failures ------------------------------------------------------------------------------------------ */

void failure_set(struct failure *f, enum failure_kind kind, const char *fmt, ...)
{
	va_list ap;
	*f = (struct failure){.kind = kind};
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof f->message, fmt, ap);
	va_end(ap);
}

/* Text from a guest is bytes; what leaves here is ASCII. */
static void copy_clean(char *out, size_t size, const char *text)
{
	size_t n = 0;
	for (; text && *text && n + 1 < size; text++)
		out[n++] = *text >= ' ' && *text < 127 ? *text : '?';
	out[n] = '\0';
}

static enum failure_kind kind_of_errno(int errnum)
{
	switch (errnum) {
	case ENOENT:
		return FAIL_NOT_FOUND;
	case EEXIST:
		return FAIL_EXISTS;
	case ENOTEMPTY:
	case EBUSY:
	case ETXTBSY:
		return FAIL_CONFLICT;
	case ENOSPC:
	case EDQUOT:
		return FAIL_NO_SPACE;
	case EACCES:
	case EPERM:
	case EROFS:
		return FAIL_PERMISSION;
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case ENAMETOOLONG:
	case EINVAL:
	case EXDEV:
	case EFBIG:
	case ENXIO:
	case ENODEV:
	case EBADMSG: /* an archive that is none */
	case EOPNOTSUPP:
		return FAIL_INVALID;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return FAIL_EXHAUSTED;
	default:
		return FAIL_INTERNAL;
	}
}

static void describe_file(struct failure *f, const Tenon__Error *m)
{
	char text[160];
	size_t n = 0;
	f->kind = kind_of_errno(f->errnum);
	for (; n < m->path.len && n + 1 < sizeof f->path; n++)
		f->path[n] = m->path.data[n] >= ' ' && m->path.data[n] != 127 ? (char)m->path.data[n] : '?';
	f->path[n] = '\0';
	copy_clean(text, sizeof text, m->message);
	snprintf(f->message, sizeof f->message, "%.300s%s%s", f->path, f->path[0] ? ": " : "",
		 text[0] ? text : strerror(f->errnum));
}

void failure_from_agent(struct failure *f, const Tenon__Error *m)
{
	static const struct {
		Tenon__Code code;
		enum failure_kind kind;
	} kinds[] = {
		{TENON__CODE__CODE_UNSUPPORTED, FAIL_UNSUPPORTED},
		{TENON__CODE__CODE_INVALID_ARGUMENT, FAIL_INVALID},
		{TENON__CODE__CODE_NOT_FOUND, FAIL_NOT_FOUND},
		{TENON__CODE__CODE_ALREADY_EXISTS, FAIL_EXISTS},
		{TENON__CODE__CODE_NOT_CONFIGURED, FAIL_UNAVAILABLE},
		{TENON__CODE__CODE_EXEC_FAILED, FAIL_EXEC},
		{TENON__CODE__CODE_RESOURCE_EXHAUSTED, FAIL_EXHAUSTED},
		{TENON__CODE__CODE_GONE, FAIL_GONE},
		{TENON__CODE__CODE_OUT_OF_RANGE, FAIL_INVALID},
		{TENON__CODE__CODE_SHUTTING_DOWN, FAIL_UNAVAILABLE},
		{TENON__CODE__CODE_TIMEOUT, FAIL_TIMEOUT},
		{TENON__CODE__CODE_FENCED, FAIL_UNAVAILABLE}, /* the link was made anew just now */
		{TENON__CODE__CODE_FROZEN, FAIL_CONFLICT},
	};
	*f = (struct failure){.kind = FAIL_INTERNAL, .errnum = (int)(m->errnum & 4095)};
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].code == m->code)
			f->kind = kinds[i].kind;
	copy_clean(f->stage, sizeof f->stage, m->stage);
	char text[160];
	copy_clean(f->field, sizeof f->field, m->field);
	copy_clean(text, sizeof text, m->message);
	snprintf(f->message, sizeof f->message, "%s%s%s", f->field, f->field[0] ? ": " : "", text);
	if (m->code == TENON__CODE__CODE_FILE_FAILED)
		describe_file(f, m);
}

/* ---- starting ---- */

static void exec_free(Tenon__Exec *m)
{
	tenon__exec__free_unpacked(m, NULL);
}

/* A deep copy by packing; *packed, owned by the caller, is what goes to the database. */
static Tenon__Exec *exec_copy(const Tenon__Exec *m, uint8_t **packed, size_t *len)
{
	*len = tenon__exec__get_packed_size(m);
	*packed = malloc(*len + 1);
	if (!*packed)
		return NULL;
	tenon__exec__pack(m, *packed);
	return tenon__exec__unpack(NULL, *len, *packed);
}

static void on_start_closed(uv_handle_t *h)
{
	struct start *s = h->data;
	exec_free(s->exec);
	free(s);
}

void start_answer(struct execution *x, const struct failure *f)
{
	struct start *s = x->start;
	if (!s)
		return;
	x->start = NULL;
	uv_close((uv_handle_t *)&s->deadline, on_start_closed);
	if (s->done)
		s->done(s->arg, f ? NULL : x, f);
}

/* The caller is told; the process, should it still come to life, is not wanted any more. */
static void on_start_deadline(uv_timer_t *t)
{
	struct start *s = t->data;
	struct execution *x = execution_ref(s->execution);
	struct failure f;
	failure_set(&f, FAIL_TIMEOUT, "the process was not started within %u ms", EXECUTION_START_MS);
	x->row.kill = true;
	if (x->phase == PHASE_STARTING && !x->stream.id) { /* never asked for */
		start_answer(x, &f);
		execution_remove(x);
	} else {
		execution_started_fn done = s->done;
		s->done = NULL; /* the request is kept, in case it must be repeated */
		done(s->arg, NULL, &f);
	}
	execution_unref(x);
}

bool start_send(struct execution *x)
{
	struct err e;
	Tenon__Exec *exec = x->start->exec;
	exec->stdout_limit = x->limit[CHANNEL_STDOUT];
	exec->stderr_limit = x->limit[CHANNEL_STDERR];
	exec->answer_late &= x->session->features & WIRE_FEATURE_ANSWER_LATE;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_EXEC;
	req.exec = exec;
	int r = link_open(x->session->link, &x->stream, &req, &e);
	if (r == -EMSGSIZE) {
		struct failure f;
		failure_set(&f, FAIL_INVALID, "command and environment: %.200s", e.msg);
		start_answer(x, &f);
		execution_remove(x);
	} else if (r < 0) {
		execution_watch(x);
	}
	return r == 0;
}

static void on_committed(void *arg, int status, const struct err *e)
{
	struct execution *x = arg;
	struct failure f;
	if (x->phase == PHASE_COMMITTING && status < 0) {
		failure_set(&f, FAIL_INTERNAL, "the execution cannot be recorded: %s", e ? e->msg : "");
		start_answer(x, &f);
		execution_remove(x);
	} else if (x->phase == PHASE_COMMITTING) {
		x->phase = PHASE_STARTING;
		execution_touch(x);
	}
	execution_unref(x);
}

static ProtobufCBinaryData *list_of(const char *const *strings, size_t *n)
{
	*n = 0;
	while (strings && strings[*n])
		(*n)++;
	ProtobufCBinaryData *list = calloc(*n + 1, sizeof *list);
	for (size_t i = 0; list && i < *n; i++)
		list[i] = (ProtobufCBinaryData){strlen(strings[i]), (uint8_t *)(uintptr_t)strings[i]};
	return list;
}

/* What of a spec lies in messages of its own; absent where the spec is silent. */
struct confinement {
	Tenon__Tty tty;
	Tenon__Seccomp seccomp;
	Tenon__SeccompUnconfined unconfined;
	Tenon__SeccompDefault filtered;
	Tenon__SeccompRules *rules; /* owned */
	Tenon__Resources resources;
	Tenon__Rlimit rlimits[EXEC_RLIMITS_MAX];
	Tenon__Rlimit *list[EXEC_RLIMITS_MAX];
};

static int put_confinement(Tenon__Exec *m, struct confinement *c, const struct exec_spec *spec)
{
	tenon__tty__init(&c->tty);
	tenon__seccomp__init(&c->seccomp);
	tenon__seccomp_unconfined__init(&c->unconfined);
	tenon__seccomp_default__init(&c->filtered);
	tenon__resources__init(&c->resources);
	c->tty.rows = spec->rows;
	c->tty.cols = spec->cols;
	if (spec->tty)
		m->tty = &c->tty;
	if (spec->user)
		m->user = (ProtobufCBinaryData){strlen(spec->user), (uint8_t *)(uintptr_t)spec->user};
	m->preset = spec->preset;
	m->no_new_privs = spec->no_new_privs;
	m->cap_add = spec->cap_add;
	m->cap_drop = spec->cap_drop;
	if (spec->seccomp == SECCOMP_OFF) {
		c->seccomp.kind_case = TENON__SECCOMP__KIND_UNCONFINED;
		c->seccomp.unconfined = &c->unconfined;
	} else if (spec->seccomp == SECCOMP_RULES) {
		c->rules = tenon__seccomp_rules__unpack(NULL, spec->rules_len, spec->rules);
		if (!c->rules)
			return -ENOMEM;
		c->seccomp.kind_case = TENON__SECCOMP__KIND_RULES;
		c->seccomp.rules = c->rules;
	} else {
		c->seccomp.kind_case = TENON__SECCOMP__KIND_DEFAULT_PROFILE;
		c->seccomp.default_profile = &c->filtered;
	}
	if (spec->seccomp != SECCOMP_OF_PRESET)
		m->seccomp = &c->seccomp;
	for (unsigned i = 0; i < spec->n_rlimits; i++) {
		tenon__rlimit__init(&c->rlimits[i]);
		c->rlimits[i].resource = spec->rlimits[i].resource;
		c->rlimits[i].soft = spec->rlimits[i].soft;
		c->rlimits[i].hard = spec->rlimits[i].hard;
		c->list[i] = &c->rlimits[i];
	}
	m->rlimits = c->list;
	m->n_rlimits = spec->n_rlimits;
	c->resources.memory_max = spec->memory_max;
	c->resources.memory_high = spec->memory_high;
	c->resources.pids_max = spec->pids_max;
	c->resources.cpu_quota_us = spec->cpu_quota_us;
	c->resources.cpu_weight = spec->cpu_weight;
	if (spec->memory_max || spec->memory_high || spec->pids_max || spec->cpu_quota_us || spec->cpu_weight)
		m->resources = &c->resources;
	return 0;
}

static int start_make(struct execution *x, const struct exec_spec *spec, uint8_t **packed, size_t *len)
{
	Tenon__Exec m = TENON__EXEC__INIT;
	struct confinement confinement = {0};
	int r = put_confinement(&m, &confinement, spec);
	m.id = (ProtobufCBinaryData){sizeof x->row.id, x->row.id};
	m.argv = list_of(spec->argv, &m.n_argv);
	m.env = list_of(spec->env, &m.n_env);
	if (spec->cwd)
		m.cwd = (ProtobufCBinaryData){strlen(spec->cwd), (uint8_t *)(uintptr_t)spec->cwd};
	m.with_stdin = spec->with_stdin || spec->tty;
	m.timeout_ms = spec->timeout_ms;
	m.answer_late = spec->end_only;
	struct start *s = calloc(1, sizeof *s);
	if (r == 0 && s && m.argv && m.env)
		s->exec = exec_copy(&m, packed, len);
	free(m.argv);
	free(m.env);
	tenon__seccomp_rules__free_unpacked(confinement.rules, NULL);
	if (!s || !s->exec) {
		free(s);
		return -ENOMEM;
	}
	s->execution = x;
	uv_timer_init(x->registry->config.loop, &s->deadline);
	s->deadline.data = s;
	uv_timer_start(&s->deadline, on_start_deadline, EXECUTION_START_MS, 0);
	x->start = s;
	return 0;
}

void executions_start(struct session *session, const struct exec_spec *spec, execution_started_fn done,
		      void *arg)
{
	struct executions *xs = session->registry;
	struct row row = {.started_ms = clock_ms(CLOCK_REALTIME)};
	struct failure f;
	uint8_t *packed = NULL;
	size_t len = 0;
	if (!session->known_boot || session->ended) {
		failure_set(&f, FAIL_UNAVAILABLE, "the box is not connected yet");
		done(arg, NULL, &f);
		return;
	}
	if (!spec->argv || !spec->argv[0]) {
		failure_set(&f, FAIL_INVALID, "command: at least one word");
		done(arg, NULL, &f);
		return;
	}
	memcpy(row.boot_id, session->boot_id, sizeof row.boot_id);
	strncpy(row.box_id, session->box_id, BOX_ID_MAX);
	if (getrandom(row.id, sizeof row.id, 0) != sizeof row.id) {
		failure_set(&f, FAIL_INTERNAL, "no random bytes for an id");
		done(arg, NULL, &f);
		return;
	}

	struct execution *x = execution_create(xs, &row);
	int r = x ? start_make(x, spec, &packed, &len) : -ENOMEM;
	if (r == 0)
		r = execution_open_log(x, true, NULL);
	if (r == 0) {
		x->phase = PHASE_COMMITTING;
		x->input.adopted = true;
		x->start->done = done;
		x->start->arg = arg;
		session_add(session, x);
		r = rows_put(xs->config.store, &x->row, packed, len, on_committed, execution_ref(x));
		if (r < 0)
			execution_unref(x);
	}
	free(packed);
	if (r == 0)
		return;
	failure_set(&f, FAIL_INTERNAL, "no memory for an execution");
	if (x && x->start)
		x->start->done = NULL;
	if (x) {
		start_answer(x, &f);
		execution_remove(x);
	}
	done(arg, NULL, &f);
}

/* ---- signals ---- */

struct signal_call {
	struct execution *execution;
	execution_done_fn done;
	void *arg;
	bool kill;
};

static void on_signalled(void *arg, const Tenon__Response *m, const struct err *why)
{
	struct signal_call *c = arg;
	struct failure f, *told = NULL;
	/* A KILL that was lost is repeated at the next attach; one that found nothing has what it wanted. */
	if (!m && !c->kill)
		failure_set(told = &f, FAIL_UNAVAILABLE, "the signal may not have arrived: %s", why->msg);
	else if (m && m->error && !c->kill)
		failure_from_agent(told = &f, m->error);
	if (c->done)
		c->done(c->arg, told);
	execution_unref(c->execution);
	free(c);
}

static int send_signal(struct execution *x, int signo, Tenon__Target target, execution_done_fn done,
		       void *arg)
{
	struct signal_call *c = malloc(sizeof *c);
	if (!c)
		return -ENOMEM;
	*c = (struct signal_call){execution_ref(x), done, arg, target == TENON__TARGET__TARGET_ALL};
	Tenon__Signal m = TENON__SIGNAL__INIT;
	m.id = (ProtobufCBinaryData){sizeof x->row.id, x->row.id};
	m.signo = (uint32_t)signo;
	m.target = target;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_SIGNAL;
	req.signal = &m;
	session_call(x->session, &req, EXECUTION_CALL_MS, on_signalled, c);
	return 0;
}

static void on_resized(void *arg, const Tenon__Response *m, const struct err *why)
{
	struct signal_call *c = arg;
	struct failure f, *told = NULL;
	if (!m)
		failure_set(told = &f, FAIL_UNAVAILABLE, "the size may not have arrived: %s", why->msg);
	else if (m->error)
		failure_from_agent(told = &f, m->error);
	/* The size is known to be good: it is the execution that has no terminal, or none any more. */
	if (told && (f.kind == FAIL_INVALID || f.kind == FAIL_NOT_FOUND))
		failure_set(told, FAIL_CONFLICT, "the execution has no terminal");
	if (c->done)
		c->done(c->arg, told);
	execution_unref(c->execution);
	free(c);
}

static void finished_failure(struct failure *f)
{
	failure_set(f, FAIL_CONFLICT, "the execution has ended");
}

void execution_signal(struct execution *x, int signo, execution_done_fn done, void *arg)
{
	struct failure f;
	if (x->phase >= PHASE_FINISHING || x->exited)
		finished_failure(&f);
	else if (signo < 1 || signo > 64)
		failure_set(&f, FAIL_INVALID, "signal: 1 to 64");
	else if (!x->session)
		failure_set(&f, FAIL_UNAVAILABLE, "the box is not connected");
	else if (send_signal(x, signo, TENON__TARGET__TARGET_PROCESS, done, arg) < 0)
		failure_set(&f, FAIL_INTERNAL, "no memory");
	else
		return;
	if (done)
		done(arg, &f);
}

void execution_resize(struct execution *x, unsigned rows, unsigned cols, execution_done_fn done, void *arg)
{
	struct failure f;
	struct signal_call *c = NULL;
	if (x->phase >= PHASE_FINISHING || x->exited)
		finished_failure(&f);
	else if (!x->session)
		failure_set(&f, FAIL_UNAVAILABLE, "the box is not connected");
	else if (!(c = malloc(sizeof *c)))
		failure_set(&f, FAIL_INTERNAL, "no memory");
	if (!c) {
		if (done)
			done(arg, &f);
		return;
	}
	*c = (struct signal_call){execution_ref(x), done, arg, false};
	Tenon__Tty size = TENON__TTY__INIT;
	size.rows = rows;
	size.cols = cols;
	Tenon__Resize m = TENON__RESIZE__INIT;
	m.id = (ProtobufCBinaryData){sizeof x->row.id, x->row.id};
	m.size = &size;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_RESIZE;
	req.resize = &m;
	session_call(x->session, &req, EXECUTION_CALL_MS, on_resized, c);
}

void execution_send_kill(struct execution *x)
{
	if (x->session)
		send_signal(x, 9, TENON__TARGET__TARGET_ALL, NULL, NULL);
}

/* The intent is in the database: from here on it will be killed, whatever happens to us. */
static void on_kill_committed(void *arg, int status, const struct err *e)
{
	struct signal_call *c = arg;
	struct execution *x = c->execution;
	struct failure f;
	if (status < 0)
		failure_set(&f, FAIL_INTERNAL, "the kill cannot be recorded: %s", e ? e->msg : "");
	else if (x->session && x->attached &&
		 send_signal(x, 9, TENON__TARGET__TARGET_ALL, c->done, c->arg) == 0)
		c->done = NULL;
	if (c->done)
		c->done(c->arg, status < 0 ? &f : NULL);
	execution_unref(x);
	free(c);
}

void execution_kill(struct execution *x, execution_done_fn done, void *arg)
{
	struct signal_call *c = x->phase < PHASE_FINISHING ? malloc(sizeof *c) : NULL;
	struct failure f;
	if (c) {
		*c = (struct signal_call){execution_ref(x), done, arg, true};
		x->row.kill = true;
		if (rows_put(x->registry->config.store, &x->row, NULL, 0, on_kill_committed, c) == 0)
			return;
		execution_unref(x);
		free(c);
	}
	finished_failure(&f);
	if (done)
		done(arg, &f);
}

void execution_discard(struct execution *x, execution_done_fn done, void *arg)
{
	x->discard = true;
	if (x->phase < PHASE_FINISHING) {
		execution_kill(x, done, arg);
		return;
	}
	execution_touch(x);
	if (done)
		done(arg, NULL);
}

/* ---- stdin ---- */

void execution_write(struct execution *x, const void *data, size_t len, execution_done_fn done, void *arg)
{
	struct failure f;
	if (x->phase >= PHASE_FINISHING || x->exited)
		finished_failure(&f);
	else if (x->input.closed || x->input.eof)
		failure_set(&f, FAIL_CONFLICT, "stdin is closed");
	else if (len > INPUT_CALL_MAX)
		failure_set(&f, FAIL_INVALID, "stdin: at most %u bytes at once", INPUT_CALL_MAX);
	else if (len > EXECUTION_STDIN_MAX - input_queued(&x->input))
		failure_set(&f, FAIL_EXHAUSTED, "stdin: %u bytes wait for the process already",
			    EXECUTION_STDIN_MAX);
	else if (!input_push(&x->input, data, len, done, arg))
		failure_set(&f, FAIL_INTERNAL, "no memory");
	else {
		execution_touch(x);
		return;
	}
	if (done)
		done(arg, &f);
}

void execution_close_stdin(struct execution *x)
{
	x->input.eof = true;
	execution_touch(x);
}

size_t execution_stdin_queued(const struct execution *x)
{
	return input_queued(&x->input);
}

void execution_on_stdin_drain(struct execution *x, void (*fn)(void *arg), void *arg)
{
	x->input.drained = fn;
	x->input.drained_arg = arg;
}

/* ---- facts ---- */

const char *execution_id(const struct execution *x)
{
	return x->hex;
}

void execution_get_info(const struct execution *x, struct execution_info *out)
{
	static const enum execution_status statuses[] = {
		[ROW_RUNNING] = EXECUTION_RUNNING, [ROW_COMPLETED] = EXECUTION_COMPLETED,
		[ROW_KILLED] = EXECUTION_KILLED,   [ROW_TIMED_OUT] = EXECUTION_TIMED_OUT,
		[ROW_REAPED] = EXECUTION_KILLED,
	};
	const struct row *row = &x->row;
	bool done = x->over || x->phase == PHASE_REMOVED;
	*out = (struct execution_info){
		.status = done ? statuses[row->state] : EXECUTION_RUNNING,
		.started_ms = row->started_ms,
		.end = x->log && log_loaded(x->log) ? log_readable(x->log) : row->finish,
	};
	if (!done)
		return;
	out->exit_code = row->exit_code;
	out->has_exit = row->has_exit;
	out->ended_ms = row->ended_ms;
	out->duration_ms = row->duration_ms;
	memcpy(out->reason, row->reason, sizeof out->reason);
	if (row->finish < out->end)
		out->end = row->finish;
}

void execution_on_end(struct execution *x, void (*fn)(void *arg), void *arg)
{
	x->on_end = fn;
	x->on_end_arg = arg;
}

bool execution_has_ended(const struct execution *x, int *exit_code)
{
	bool done = x->over || x->phase == PHASE_REMOVED;
	*exit_code = done ? x->row.exit_code : x->exit_code;
	return done || x->exited;
}

uint64_t execution_seen(const struct execution *x)
{
	return x->row.seen;
}

void execution_set_seen(struct execution *x, uint64_t position)
{
	/* A client that began beyond the end has seen nothing there, and the next one must not begin there.
	 */
	uint64_t end = x->log && log_loaded(x->log) ? log_readable(x->log) : 0;
	if (position <= x->row.seen || position > end || x->phase == PHASE_REMOVED)
		return;
	x->row.seen = position;
	/* While the end is being committed that write carries it; a row must not be put back to an older
	 * state. */
	rows_put(x->registry->config.store, &x->row, NULL, 0, NULL, NULL);
}

bool execution_attach(struct execution *x)
{
	if (x->client_attached)
		return false;
	return x->client_attached = true;
}

void execution_detach(struct execution *x)
{
	x->client_attached = false;
}
