#include "host-shim/daemon/executions/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/executions/registry.h"
#include "proto/cleanup.h"

static void dial(struct session *s);

/* ---- calls ---- */

struct session_call {
	TAILQ_ENTRY(session_call) in_session;
	struct session *session;
	struct link_stream stream;
	uv_timer_t deadline;
	session_reply_fn fn;
	void *arg;
};

static void on_call_closed(uv_handle_t *h)
{
	free(h->data);
}

static void call_end(struct session_call *c, const Tenon__Response *m, const struct err *why)
{
	TAILQ_REMOVE(&c->session->calls, c, in_session);
	if (c->session->link)
		link_stream_close(c->session->link, &c->stream, false);
	uv_close((uv_handle_t *)&c->deadline, on_call_closed);
	c->fn(c->arg, m, why);
}

static struct session_call *call_of(struct link_stream *s)
{
	return (struct session_call *)((char *)s - offsetof(struct session_call, stream));
}

static int on_call_response(struct link_stream *s, const Tenon__Response *m, struct err *e)
{
	(void)e;
	call_end(call_of(s), m, NULL);
	return 0;
}

static void on_call_lost(struct link_stream *s, const struct err *why)
{
	call_end(call_of(s), NULL, why);
}

static void on_call_deadline(uv_timer_t *t)
{
	struct session_call *c = t->data;
	struct err e;
	if (c->stream.id)
		err_set(&e, "call", ETIMEDOUT, "the agent does not answer");
	else
		err_set(&e, "call", ENOTCONN, "no connection to the agent");
	call_end(c, NULL, &e);
}

void session_call(struct session *s, const Tenon__Request *req, unsigned deadline_ms, session_reply_fn fn,
		  void *arg)
{
	struct session_call *c = calloc(1, sizeof *c);
	if (!c)
		abort(); /* a few hundred bytes: there is nobody left to tell */
	c->session = s;
	c->fn = fn;
	c->arg = arg;
	c->stream = (struct link_stream){.response = on_call_response, .lost = on_call_lost};
	uv_timer_init(s->registry->config.loop, &c->deadline);
	c->deadline.data = c;
	TAILQ_INSERT_TAIL(&s->calls, c, in_session);
	bool sent = s->link && s->up && link_open(s->link, &c->stream, req, NULL) == 0;
	uv_timer_start(&c->deadline, on_call_deadline, sent ? deadline_ms : 0, 0);
}

/* ---- executions of this session ---- */

void session_add(struct session *s, struct execution *x)
{
	x->session = s;
	TAILQ_INSERT_TAIL(&s->executions, x, in_session);
	x->running = x->phase < PHASE_DONE;
	s->running += x->running;
}

void session_uncount(struct execution *x)
{
	struct session *s = x->session;
	if (s && x->running) {
		s->running--;
		s->idle_ms = clock_ms(CLOCK_MONOTONIC);
	}
	x->running = false;
}

void session_remove(struct execution *x)
{
	if (!x->session)
		return;
	session_uncount(x);
	execution_cancel_ack(x);
	TAILQ_REMOVE(&x->session->executions, x, in_session);
	x->session = NULL;
}

/* Those of this box that a former session, or a former tenond, left. */
static void take_over(struct session *s)
{
	struct executions *xs = s->registry;
	for (unsigned i = 0; i < REGISTRY_BUCKETS; i++) {
		struct execution *x;
		LIST_FOREACH (x, &xs->by_id[i], by_id) {
			bool open = x->phase == PHASE_DONE ? !x->row.drained : !x->boot_ended;
			if (x->session || !open || strcmp(x->row.box_id, s->box_id) != 0)
				continue;
			if (!x->log && execution_open_log(x, false, NULL) < 0)
				continue;
			session_add(s, x);
		}
	}
}

static void end_boot(struct session *s, const uint8_t *unless, const char *reason)
{
	struct execution *x;
	bool again = true;
	/* Ending one may answer its caller, who may do as he likes with the others. */
	while (again) {
		again = false;
		TAILQ_FOREACH (x, &s->executions, in_session)
			if (!unless || memcmp(x->row.boot_id, unless, sizeof x->row.boot_id) != 0) {
				execution_end_boot(x, reason);
				again = true;
				break;
			}
	}
}

/* A row of the agent that the database does not have: nobody can want it. It goes the way of every execution
 * that is killed: attach, KILL, log, commit, acknowledge. */
static void take_stranger(struct session *s, const Tenon__ExecState *m)
{
	struct row row = {.started_ms = clock_ms(CLOCK_REALTIME), .kill = true};
	memcpy(row.id, m->id.data, sizeof row.id);
	memcpy(row.boot_id, s->boot_id, sizeof row.boot_id);
	strncpy(row.box_id, s->box_id, BOX_ID_MAX);
	struct execution *x = execution_create(s->registry, &row);
	if (!x)
		return;
	x->discard = true;
	session_add(s, x);
	if (execution_open_log(x, true, NULL) < 0) {
		execution_remove(x);
		return;
	}
	rows_put(s->registry->config.store, &row, NULL, 0, NULL, NULL);
	execution_touch(x);
}

static void acknowledge_reaped(struct session *s, const Tenon__ExecState *m);

static void list(struct session *s, const uint8_t *after);

static void on_listed(void *arg, const Tenon__Response *m, const struct err *why)
{
	struct session *s = arg;
	(void)why;
	if (!m || m->result_case != TENON__RESPONSE__RESULT_EXECS || s->ended)
		return; /* the next HELLO lists anew */
	s->accepted = true;
	const Tenon__ExecState *state = NULL;
	for (size_t i = 0; i < m->execs->n_execs; i++) {
		state = m->execs->execs[i];
		if (state->id.len != 16)
			return;
		if (registry_get(s->registry, state->id.data))
			continue;
		if (registry_has_tombstone(s->registry, state->id.data))
			acknowledge_reaped(s, state);
		else
			take_stranger(s, state);
	}
	if (m->execs->more && state)
		list(s, state->id.data);
}

static void list(struct session *s, const uint8_t *after)
{
	Tenon__ListExecs m = TENON__LIST_EXECS__INIT;
	m.max = SESSION_LIST_PAGE;
	if (after)
		m.after = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)after};
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_LIST_EXECS;
	req.list_execs = &m;
	session_call(s, &req, EXECUTION_CALL_MS, on_listed, s);
}

static void ignore_reply(void *arg, const Tenon__Response *m, const struct err *why)
{
	(void)arg;
	(void)m;
	(void)why;
}

static void acknowledge_reaped(struct session *s, const Tenon__ExecState *state)
{
	Tenon__ExecAck m = TENON__EXEC_ACK__INIT;
	m.id = state->id;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_EXEC_ACK;
	req.exec_ack = &m;
	session_call(s, &req, EXECUTION_CALL_MS, ignore_reply, NULL);
}

/* ---- Configure and Shutdown ---- */

/* Configure may outlive its connection: it is asked again after each HELLO until it is done. */
struct configure {
	struct session *session;
	uv_timer_t deadline;
	Tenon__Configure *request;
	bool asked;
	session_done_fn done;
	void *arg;
};

static void on_configure_closed(uv_handle_t *h)
{
	struct configure *c = h->data;
	tenon__configure__free_unpacked(c->request, NULL);
	free(c);
}

static void configure_end(struct configure *c, const struct failure *f)
{
	c->session->configure = NULL;
	uv_close((uv_handle_t *)&c->deadline, on_configure_closed);
	c->done(c->arg, f);
}

static void on_configured(void *arg, const Tenon__Response *m, const struct err *why)
{
	struct session *s = arg;
	struct failure f;
	(void)why;
	if (!s->configure)
		return;
	s->configure->asked = false;
	if (m && m->error) {
		failure_from_agent(&f, m->error);
		configure_end(s->configure, &f);
	} else if (m) {
		configure_end(s->configure, NULL);
	}
}

static void configure_ask(struct session *s)
{
	struct configure *c = s->configure;
	if (!c || c->asked || !s->up)
		return;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_CONFIGURE;
	req.configure = c->request;
	c->asked = true;
	session_call(s, &req, UINT32_MAX, on_configured, s); /* its own deadline is c's */
}

static void on_configure_deadline(uv_timer_t *t)
{
	struct configure *c = t->data;
	struct failure f;
	failure_set(&f, FAIL_TIMEOUT, "the box was not configured in time");
	configure_end(c, &f);
}

void session_configure(struct session *s, const Tenon__Configure *request, unsigned deadline_ms,
		       session_done_fn done, void *arg)
{
	struct failure f;
	size_t len = tenon__configure__get_packed_size(request);
	_cleanup_free_ uint8_t *packed = malloc(len + 1);
	struct configure *c = s->configure ? NULL : calloc(1, sizeof *c);
	if (c && packed) {
		tenon__configure__pack(request, packed);
		c->request = tenon__configure__unpack(NULL, len, packed);
	}
	if (!c || !c->request) {
		free(c);
		failure_set(&f, s->configure ? FAIL_CONFLICT : FAIL_INTERNAL,
			    s->configure ? "the box is being configured already" : "no memory");
		done(arg, &f);
		return;
	}
	c->session = s;
	c->done = done;
	c->arg = arg;
	uv_timer_init(s->registry->config.loop, &c->deadline);
	c->deadline.data = c;
	uv_timer_start(&c->deadline, on_configure_deadline, deadline_ms, 0);
	s->configure = c;
	configure_ask(s);
}

/* A request that is answered by Done, or fails. */
struct plain_call {
	session_done_fn done;
	void *arg;
};

static void on_plain_done(void *arg, const Tenon__Response *m, const struct err *why)
{
	struct plain_call *c = arg;
	struct failure f, *told = NULL;
	if (!m)
		failure_set(told = &f, why->errnum == ETIMEDOUT ? FAIL_TIMEOUT : FAIL_UNAVAILABLE, "%s",
			    why->msg);
	else if (m->error)
		failure_from_agent(told = &f, m->error);
	c->done(c->arg, told);
	free(c);
}

static void call_plain(struct session *s, const Tenon__Request *req, unsigned deadline_ms,
		       session_done_fn done, void *arg)
{
	struct failure f;
	struct plain_call *c = malloc(sizeof *c);
	if (!c) {
		failure_set(&f, FAIL_INTERNAL, "no memory");
		done(arg, &f);
		return;
	}
	*c = (struct plain_call){done, arg};
	session_call(s, req, deadline_ms, on_plain_done, c);
}

void session_shutdown(struct session *s, unsigned grace_ms, session_done_fn done, void *arg)
{
	Tenon__Shutdown m = TENON__SHUTDOWN__INIT;
	m.grace_ms = grace_ms;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_SHUTDOWN;
	req.shutdown = &m;
	call_plain(s, &req, EXECUTION_CALL_MS, done, arg);
}

void session_quiesce(struct session *s, unsigned max_ms, session_done_fn done, void *arg)
{
	Tenon__Quiesce m = TENON__QUIESCE__INIT;
	m.max_frozen_ms = max_ms;
	m.keep_caches = true;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_QUIESCE;
	req.quiesce = &m;
	call_plain(s, &req, SESSION_QUIESCE_MS, done, arg);
}

void session_resume(struct session *s, session_done_fn done, void *arg)
{
	Tenon__Resume m = TENON__RESUME__INIT;
	Tenon__Request req = TENON__REQUEST__INIT;
	req.op_case = TENON__REQUEST__OP_RESUME;
	req.resume = &m;
	call_plain(s, &req, SESSION_QUIESCE_MS, done, arg);
}

/* ---- the link ---- */

static void on_up(void *arg, const Tenon__Hello *hello)
{
	struct session *s = arg;
	bool regenerated = s->known_boot && s->clone_generation != hello->clone_generation;
	bool rebooted = s->known_boot &&
			(regenerated || memcmp(s->boot_id, hello->boot_id.data, sizeof s->boot_id) != 0);
	memcpy(s->boot_id, hello->boot_id.data, sizeof s->boot_id);
	s->clone_generation = hello->clone_generation;
	s->features = hello->features;
	s->known_boot = true;
	s->up = true;
	s->retry_ms = SESSION_RETRY_MIN_MS;
	/* After a restore or a clone the boot id is the same, and yet nothing of ours runs there. */
	end_boot(s, regenerated ? NULL : s->boot_id, "the box was restarted while this ran");

	struct execution *x;
	TAILQ_FOREACH (x, &s->executions, in_session) {
		x->retry_attach = false;
		execution_touch(x);
	}
	list(s, NULL);
	if (s->configure && hello->configured)
		configure_end(s->configure, NULL);
	configure_ask(s);
	if (rebooted && s->config.rebooted && !s->ended)
		s->config.rebooted(s->config.arg);
	if (s->config.up && !s->ended)
		s->config.up(s->config.arg, hello);
}

static void on_retry(uv_timer_t *t)
{
	dial(t->data);
}

static void retry_later(struct session *s)
{
	uv_timer_start(&s->retry, on_retry, s->retry_ms, 0);
	s->retry_ms = s->retry_ms * 2 < SESSION_RETRY_MAX_MS ? s->retry_ms * 2 : SESSION_RETRY_MAX_MS;
}

static void on_down(void *arg, const struct err *why)
{
	struct session *s = arg;
	if (why->errnum == ESTALE && !s->accepted && s->registry->epoch < link_agent_epoch(s->link))
		s->registry->epoch =
			link_agent_epoch(s->link); /* the agent remembers a tenond whose state was lost */
	/* Two owners that take it from each other in turns would be worse than one that yields. */
	s->fenced = why->errnum == ESTALE && s->accepted;
	s->up = s->accepted = false;
	link_destroy(s->link);
	s->link = NULL;
	if (s->fenced)
		fprintf(stderr, "tenond: box %s: another host has taken over its agent\n", s->box_id);
	else
		retry_later(s);
}

static void on_drained(void *arg)
{
	struct session *s = arg;
	struct execution *x;
	TAILQ_FOREACH (x, &s->executions, in_session)
		if (input_queued(&x->input) > 0)
			execution_touch(x);
}

static void dial(struct session *s)
{
	struct link_config c = {
		.loop = s->registry->config.loop,
		.socket_path = s->socket_path,
		.port = s->config.port,
		.host_epoch = s->epoch = ++s->registry->epoch,
		.arg = s,
		.up = on_up,
		.down = on_down,
		.drained = on_drained,
	};
	s->dialled_ms = uv_now(c.loop);
	if (link_create(&s->link, &c, NULL) < 0) {
		s->link = NULL;
		retry_later(s);
	}
}

void session_nudge(struct session *s)
{
	/* Any guest process can ring: never in the way of a dial or a link, and not more often than a retry.
	 */
	if (s->link || s->ended || s->fenced ||
	    uv_now(s->registry->config.loop) - s->dialled_ms < SESSION_RETRY_MIN_MS)
		return;
	uv_timer_stop(&s->retry);
	dial(s);
}

/* ---- life ---- */

int session_create(struct session **out, const struct session_config *c, struct err *e)
{
	struct session *s = calloc(1, sizeof *s);
	char *box_id = strdup(c->box_id), *path = strdup(c->socket_path);
	if (!s || !box_id || !path || strlen(box_id) > BOX_ID_MAX) {
		free(s);
		free(box_id);
		free(path);
		return err_set(e, "session", ENOMEM, "no memory for a session");
	}
	s->config = *c;
	s->registry = c->executions;
	s->config.box_id = s->box_id = box_id;
	s->config.socket_path = s->socket_path = path;
	s->retry_ms = SESSION_RETRY_MIN_MS;
	TAILQ_INIT(&s->executions);
	TAILQ_INIT(&s->calls);
	uv_timer_init(s->registry->config.loop, &s->retry);
	s->retry.data = s;
	take_over(s);
	/* Not from here: the caller does not have the session yet. */
	uv_timer_start(&s->retry, on_retry, 0, 0);
	*out = s;
	return 0;
}

static void on_session_closed(uv_handle_t *h)
{
	struct session *s = h->data;
	free(s->box_id);
	free(s->socket_path);
	free(s);
}

void session_destroy(struct session *s, const char *reason)
{
	struct err e;
	struct failure f;
	struct execution *x;
	if (!s)
		return;
	err_set(&e, "session", ENOTCONN, "%s", reason ? reason : "tenond is going down");
	s->ended = true;
	s->up = false;
	if (reason)
		end_boot(s, NULL, reason);
	while ((x = TAILQ_FIRST(&s->executions))) {
		if (s->link)
			link_stream_close(s->link, &x->stream, true);
		x->stream.id = 0;
		x->attached = false;
		session_remove(x);
	}
	while (!TAILQ_EMPTY(&s->calls))
		call_end(TAILQ_FIRST(&s->calls), NULL, &e);
	if (s->configure) {
		failure_set(&f, FAIL_UNAVAILABLE, "%s", e.msg);
		configure_end(s->configure, &f);
	}
	link_destroy(s->link);
	s->link = NULL;
	uv_close((uv_handle_t *)&s->retry, on_session_closed);
}

int session_bulk(struct session *s, const Tenon__BulkRequest *req, void (*wake)(void *arg), void *arg,
		 struct bulk **out, struct err *e)
{
	if (!s->up)
		return err_set(e, "session", ENOTCONN, "the box is not connected");
	struct bulk_config c = {.loop = s->registry->config.loop,
				.socket_path = s->socket_path,
				.port = s->config.port,
				.host_epoch = s->epoch,
				.wake = wake,
				.arg = arg};
	return bulk_create(out, &c, req, e);
}

bool session_up(const struct session *s)
{
	return s->up;
}

struct session_traffic session_traffic(const struct session *s)
{
	return s->traffic;
}

unsigned session_running(const struct session *s)
{
	return s->running;
}

uint64_t session_idle_since(const struct session *s)
{
	return s->idle_ms;
}
