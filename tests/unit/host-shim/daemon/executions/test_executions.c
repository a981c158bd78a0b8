/* Executions, sessions and readers against a scripted agent on the same loop, with the real store and real
 * logs. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "host-shim/daemon/executions/executions.h"
#include "host-shim/daemon/executions/registry.h"
#include "proto/frame.h"
#include "proto/message.h"

#define MIB (1u << 20)

static uv_loop_t loop;
static char dir[64], socket_path[96];
static struct store *store;
static struct executions *xs;
static struct session *session;
static uint64_t epoch;

/* ---- the agent ---- */
static struct {
	int listener, fd;
	uint8_t boot[16];
	struct frame_reader in;
	uint8_t buf[FRAME_SIZE_MAX];
	bool refuse_hello;

	bool wants;
	bool says_when; /* it wants credit */
	bool mute_exec; /* takes an Exec and breaks the link */
	Tenon__Code fail_exec, fail_attach;
	bool has_row, listed_stranger;
	uint8_t row[16];
	uint32_t stream;
	uint64_t base[3];
	unsigned hellos, execs, attaches, acks, kills, lists, goaways;
	uint64_t acked[3], limit[3], attach_end[3];
	uint8_t input[4096];
	size_t input_len;
	bool input_eof;
	void (*check_exec)(const Tenon__Exec *m);
	unsigned rows, cols;
} agent;

static void say(uint8_t type, uint32_t stream, uint8_t flags, const void *payload, size_t len)
{
	uint8_t header[FRAME_HEADER_SIZE];
	frame_put_header(header, &(struct frame){(uint32_t)len, stream, type, flags, NULL});
	assert_int_equal(send(agent.fd, header, sizeof header, MSG_NOSIGNAL), sizeof header);
	if (len)
		assert_int_equal(send(agent.fd, payload, len, MSG_NOSIGNAL), len);
}

static void say_response(uint32_t stream, Tenon__Response *m)
{
	uint8_t buf[8192];
	say(FRAME_RSP, stream, 0, buf, tenon__response__pack(m, buf));
}

static void say_error(uint32_t stream, Tenon__Code code)
{
	Tenon__Error error = TENON__ERROR__INIT;
	Tenon__Response m = TENON__RESPONSE__INIT;
	error.code = code;
	error.stage = (char *)"execve";
	error.errnum = ENOENT;
	error.message = (char *)"no \x01such file";
	m.error = &error;
	say_response(stream, &m);
}

static void say_done(uint32_t stream)
{
	Tenon__Done done = TENON__DONE__INIT;
	Tenon__Response m = TENON__RESPONSE__INIT;
	m.result_case = TENON__RESPONSE__RESULT_DONE;
	m.done = &done;
	say_response(stream, &m);
}

static void say_state(uint32_t stream, bool fresh)
{
	Tenon__ExecState state = TENON__EXEC_STATE__INIT;
	Tenon__Response m = TENON__RESPONSE__INIT;
	state.id = (ProtobufCBinaryData){16, agent.row};
	state.fresh = fresh;
	state.stdin_acked = agent.input_len;
	state.stdin_limit = sizeof agent.input;
	m.result_case = TENON__RESPONSE__RESULT_EXEC;
	m.exec = &state;
	say_response(stream, &m);
}

static void say_data(int channel, uint64_t offset, const void *data, size_t len)
{
	uint8_t head[FRAME_DATA_HEAD];
	frame_put_data_head(head, agent.stream, (enum frame_channel)channel, offset, len);
	if (agent.wants)
		frame_add_flag(head, FRAME_CREDIT_WANTED);
	assert_int_equal(send(agent.fd, head, sizeof head, MSG_NOSIGNAL), sizeof head);
	assert_int_equal(send(agent.fd, data, len, MSG_NOSIGNAL), len);
}

static void say_eof(int channel, uint64_t total)
{
	uint8_t frame[FRAME_SMALL_MAX];
	size_t n = frame_put_eof(frame, agent.stream, (enum frame_channel)channel, total);
	assert_int_equal(send(agent.fd, frame, n, MSG_NOSIGNAL), n);
}

static void say_exit(uint32_t code, uint32_t signal, uint64_t out, uint64_t err)
{
	uint8_t buf[256];
	Tenon__ExitRecord record = TENON__EXIT_RECORD__INIT;
	Tenon__Event m = TENON__EVENT__INIT;
	record.code = code;
	record.signal = signal;
	record.stdout_total = out;
	record.stderr_total = err;
	m.kind_case = TENON__EVENT__KIND_EXIT;
	m.exit = &record;
	say(FRAME_EVENT, agent.stream, 0, buf, tenon__event__pack(&m, buf));
}

static void agent_drop(void)
{
	if (agent.fd >= 0)
		close(agent.fd);
	agent.fd = -1;
}

static sqlite3 *open_database(int flags)
{
	char path[128];
	sqlite3 *db;
	snprintf(path, sizeof path, "%s/tenon.db", dir);
	assert_int_equal(sqlite3_open_v2(path, &db, flags, NULL), SQLITE_OK);
	return db;
}

static unsigned rows_in_database(void)
{
	sqlite3 *db = open_database(SQLITE_OPEN_READONLY);
	sqlite3_stmt *s;
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM executions", -1, &s, NULL), SQLITE_OK);
	sqlite3_step(s);
	unsigned n = (unsigned)sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

static void agent_request(uint32_t stream, const Tenon__Request *m)
{
	Tenon__Response rsp = TENON__RESPONSE__INIT;
	Tenon__ExecList list = TENON__EXEC_LIST__INIT;
	Tenon__ExecState state = TENON__EXEC_STATE__INIT, *states = &state;
	switch (m->op_case) {
	case TENON__REQUEST__OP_EXEC:
		agent.execs++;
		if (agent.check_exec)
			agent.check_exec(m->exec);
		assert_true(rows_in_database() > 0); /* committed before it is asked for */
		if (agent.has_row) {
			assert_memory_equal(agent.row, m->exec->id.data, 16);
			say_state(stream, false);
			break;
		}
		memcpy(agent.row, m->exec->id.data, 16);
		if (agent.fail_exec) {
			say_error(stream, agent.fail_exec);
			break;
		}
		agent.has_row = true;
		agent.stream = stream;
		agent.limit[1] = m->exec->stdout_limit;
		agent.limit[2] = m->exec->stderr_limit;
		if (agent.mute_exec) {
			agent.mute_exec = false;
			agent_drop();
			break;
		}
		say_state(stream, true);
		break;
	case TENON__REQUEST__OP_ATTACH:
		agent.attaches++;
		if (agent.fail_attach) {
			say_error(stream, agent.fail_attach);
			break;
		}
		agent.stream = stream;
		agent.attach_end[1] = agent.acked[1] = m->attach->stdout_end;
		agent.attach_end[2] = agent.acked[2] = m->attach->stderr_end;
		agent.limit[1] = m->attach->stdout_limit;
		agent.limit[2] = m->attach->stderr_limit;
		say_state(stream, false);
		break;
	case TENON__REQUEST__OP_RESIZE:
		assert_memory_equal(agent.row, m->resize->id.data, 16);
		agent.rows = m->resize->size->rows;
		agent.cols = m->resize->size->cols;
		say_done(stream);
		break;
	case TENON__REQUEST__OP_EXEC_ACK:
		agent.acks++;
		say_done(stream);
		break;
	case TENON__REQUEST__OP_SIGNAL:
		agent.kills += m->signal->signo == 9 && m->signal->target == TENON__TARGET__TARGET_ALL;
		say_done(stream);
		break;
	case TENON__REQUEST__OP_LIST_EXECS:
		agent.lists++;
		state.id = (ProtobufCBinaryData){16, agent.row};
		list.n_execs = agent.listed_stranger;
		list.execs = &states;
		rsp.result_case = TENON__RESPONSE__RESULT_EXECS;
		rsp.execs = &list;
		say_response(stream, &rsp);
		break;
	default:
		fail();
	}
}

static void agent_hello(void)
{
	uint8_t buf[256];
	Tenon__Hello m = TENON__HELLO__INIT;
	m.boot_id = (ProtobufCBinaryData){16, agent.boot};
	m.configured = true;
	m.features = agent.says_when ? WIRE_FEATURE_CREDIT_WANTED : 0;
	frame_put_hello_prefix(buf);
	agent.hellos++;
	say(FRAME_HELLO, 0, 0, buf, FRAME_HELLO_PREFIX + tenon__hello__pack(&m, buf + FRAME_HELLO_PREFIX));
}

static void agent_hear(const struct frame *f)
{
	size_t len;
	Tenon__Request *m;
	int c = f->flags & 3;
	switch (f->type) {
	case FRAME_HELLO:
		agent_hello();
		break;
	case FRAME_REQ:
		m = tenon__request__unpack(NULL, f->len, f->payload);
		assert_non_null(m);
		agent_request(f->stream, m);
		tenon__request__free_unpacked(m, NULL);
		break;
	case FRAME_CREDIT:
		if (f->stream == agent.stream) {
			assert_true(frame_pair(f).a >= agent.acked[c] && frame_pair(f).b >= agent.limit[c]);
			agent.acked[c] = frame_pair(f).a;
			agent.limit[c] = frame_pair(f).b;
		}
		break;
	case FRAME_DATA:
		frame_data(f, &len);
		assert_int_equal(frame_offset(f), agent.input_len);
		memcpy(agent.input + agent.input_len, frame_data(f, &len), len);
		agent.input_len += len;
		break;
	case FRAME_EOF:
		assert_int_equal(frame_offset(f), agent.input_len);
		agent.input_eof = true;
		break;
	case FRAME_GOAWAY:
		agent.goaways++;
		break;
	}
}

static void agent_turn(void)
{
	if (agent.fd < 0) {
		agent.fd = accept4(agent.listener, NULL, NULL, SOCK_NONBLOCK);
		if (agent.fd < 0)
			return;
		int big = 4 << 20;
		setsockopt(agent.fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
		fcntl(agent.fd, F_SETFL, 0);
		frame_reader_init(&agent.in, agent.buf, sizeof agent.buf);
	}
	size_t room;
	uint8_t *space = frame_reader_space(&agent.in, &room);
	ssize_t n = recv(agent.fd, space, room, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		agent_drop();
		return;
	}
	if (n > 0)
		frame_reader_commit(&agent.in, (size_t)n);
	struct frame f;
	while (agent.fd >= 0 && frame_reader_next(&agent.in, &f, NULL) > 0)
		agent_hear(&f);
}

/* ---- the rig ---- */
static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uv_run(&loop, UV_RUN_NOWAIT);
		agent_turn();
	}
}

/* Runs both sides until cond holds, for 5 s of wall time at most. */
#define until(cond)                                     \
	do {                                            \
		for (int turn_ = 0; !(cond); turn_++) { \
			assert_true(turn_ < 25000);     \
			turns(1);                       \
			usleep(200);                    \
		}                                       \
	} while (0)

static uint64_t log_bound, retention_ms;

static void tenond_start(void)
{
	char path[128];
	struct err e;
	snprintf(path, sizeof path, "%s/tenon.db", dir);
	assert_int_equal(store_open(&store, &loop, path, &e), 0);
	epoch += UINT64_C(1) << 32;
	struct executions_config c = {.loop = &loop,
				      .store = store,
				      .state_dir = dir,
				      .host_epoch = epoch,
				      .log_limit = log_bound,
				      .retention_ms = retention_ms};
	assert_int_equal(executions_create(&xs, &c, &e), 0);
	struct session_config s = {.executions = xs, .box_id = "box", .socket_path = socket_path};
	assert_int_equal(session_create(&session, &s, &e), 0);
}

static void tenond_stop(void)
{
	session_destroy(session, NULL);
	session = NULL;
	executions_destroy(xs);
	store_close(store);
	uv_run(&loop, UV_RUN_DEFAULT);
	agent_drop();
}

static int setup(void **state)
{
	(void)state;
	log_bound = 4 * MIB;
	retention_ms = 0;
	memset(&agent, 0, sizeof agent);
	agent.fd = -1;
	agent.boot[0] = 1;
	uv_loop_init(&loop);
	strcpy(dir, "/tmp/tenon-exec-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(socket_path, sizeof socket_path, "%s/agent", dir);
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	memcpy(at.sun_path, socket_path, strlen(socket_path) + 1);
	agent.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(agent.listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(agent.listener, 8) < 0)
		return -1;
	tenond_start();
	until(session_up(session));
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	tenond_stop();
	close(agent.listener);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return uv_loop_close(&loop);
}

static struct execution *started;
static struct failure failure;
static unsigned answers, signalled, written, write_failed;

static void on_started(void *arg, struct execution *x, const struct failure *f)
{
	(void)arg;
	answers++;
	started = x ? execution_ref(x) : NULL;
	if (f)
		failure = *f;
}

static void on_done(void *arg, const struct failure *f)
{
	(*(unsigned *)arg)++;
	if (f)
		failure = *f;
}

static void begin(bool with_stdin)
{
	static const char *const argv[] = {"true", NULL};
	struct exec_spec spec = {.argv = argv, .with_stdin = with_stdin};
	started = NULL;
	answers = signalled = written = write_failed = 0;
	failure = (struct failure){0};
	executions_start(session, &spec, on_started, NULL);
}

static void start(void)
{
	begin(false);
	until(answers == 1);
	assert_non_null(started);
}

static struct execution_info info(void)
{
	struct execution_info i;
	execution_get_info(started, &i);
	return i;
}

static void wake(void *arg)
{
	(*(unsigned *)arg)++;
}

static struct reader_item read_item(struct reader *r, size_t max)
{
	struct reader_item it;
	reader_next(r, max, &it);
	reader_load(r, &it);
	return it;
}

/* Everything from `from` to the exit, as text; gaps as <n>. */
static char text[8192];
static void read_all(uint64_t from)
{
	struct reader *r;
	struct reader_item it;
	unsigned woken = 0;
	size_t n = 0;
	assert_int_equal(reader_open(&r, started, from, wake, &woken, NULL), 0);
	for (;;) {
		it = read_item(r, 3);
		if (it.kind == READ_WAIT) {
			unsigned before = woken;
			until(woken > before);
		} else if (it.kind == READ_DATA) {
			memcpy(text + n, it.data, it.len);
			n += it.len;
		} else if (it.kind == READ_GAP) {
			n += (size_t)sprintf(text + n, "<%d>", (int)(it.gap_to - it.gap_from));
		} else {
			assert_int_equal(it.kind, READ_EXIT);
			break;
		}
		assert_int_equal(it.position, reader_position(r));
	}
	text[n] = '\0';
	it = read_item(r, 3);
	assert_int_equal(it.kind, READ_WAIT);
	reader_close(r);
}

static void finish_well(void)
{
	until(info().status != EXECUTION_RUNNING);
	until(agent.acks == 1);
	execution_unref(started);
}

static void test_whole_life(void **state)
{
	(void)state;
	start();
	say_data(1, 0, "hello ", 6);
	say_exit(3, 0, 11, 4);
	say_data(2, 0, "oops", 4);
	until(agent.acked[1] == 6 && agent.acked[2] == 4);
	assert_int_equal(info().status, EXECUTION_RUNNING); /* the tail is missing */
	say_data(1, 6, "world", 5);
	read_all(0);
	assert_string_equal(text, "hello oopsworld");
	read_all(8);
	assert_string_equal(text, "psworld");
	read_all(1000); /* a position that never was */
	assert_string_equal(text, "");
	assert_int_equal(info().exit_code, 3);
	assert_int_equal(info().status, EXECUTION_COMPLETED);
	until(agent.acks == 1);
	say_data(1, 11, "late child", 10); /* kept in the log, not handed out */
	say_eof(1, 21);
	say_eof(2, 4);
	until(agent.acked[1] == 21);
	turns(20);
	read_all(0);
	assert_string_equal(text, "hello oopsworld");
	assert_int_equal(session_running(session), 0);
	execution_unref(started);
}

/* It is told before it is committed, which nothing can lose: the agent keeps the record until it is
 * acknowledged, and that comes after the commit. */
static void test_an_exit_need_not_wait_for_its_commit(void **state)
{
	(void)state;
	start();
	sqlite3 *other = open_database(SQLITE_OPEN_READWRITE);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	say_exit(3, 0, 0, 0);
	read_all(0);
	assert_int_equal(info().exit_code, 3);
	assert_int_equal(info().status, EXECUTION_COMPLETED);
	assert_int_equal(session_running(session), 0);
	turns(20);
	assert_int_equal(agent.acks, 0);
	sqlite3_close(other);
	finish_well();
}

static void test_credit_when_it_is_wanted(void **state)
{
	(void)state;
	agent.says_when = true;
	agent_drop();
	until(agent.hellos == 2 && session_up(session));
	start();
	say_data(1, 0, "hello ", 6);
	say_data(2, 0, "oops", 4);
	say_eof(2, 4); /* what has ended is acknowledged while the process runs: its ring is free then */
	until(agent.acked[2] == 4);
	turns(50);
	assert_int_equal(agent.acked[1], 0);
	agent.wants = true;
	say_data(1, 6, "world", 5);
	until(agent.acked[1] == 11);
	agent.wants = false;
	say_data(1, 11, "!", 1);
	say_eof(1, 12);
	say_exit(0, 0, 12, 4);
	until(agent.acks == 1); /* and the last goes with the acknowledgement */
	assert_int_equal(agent.acked[1], 12);
	read_all(0);
	assert_int_equal(strlen(text), 16);
	execution_unref(started);
}

/* With many live executions a window is smaller than a ring. A credit that went out for its limit alone,
 * while the log was still at work, made tenond forget that the agent waited for more: a full ring of 64 KiB
 * sends nothing that could ask again. */
static void test_credit_is_owed_for_all_that_was_asked_for(void **state)
{
	(void)state;
	static uint8_t bytes[16 * 1024];
	agent.says_when = true;
	agent_drop();
	until(agent.hellos == 2 && session_up(session));
	unsigned live = xs->live;
	xs->live = 8192;
	start();
	for (uint64_t at = 0; at < 4 * sizeof bytes; at += sizeof bytes) {
		until(agent.limit[1] >= at + sizeof bytes || (at == 0 && agent.stream));
		agent.wants = at >= 2 * sizeof bytes;
		say_data(1, at, bytes, sizeof bytes);
	}
	until(agent.acked[1] == 4 * sizeof bytes);
	xs->live = live + 1;
	agent.wants = false;
	say_eof(1, 4 * sizeof bytes);
	say_eof(2, 0);
	say_exit(0, 0, 4 * sizeof bytes, 0);
	finish_well();
}

/* What a child that was left behind writes is counted, too: it was taken off the sum that had not held it,
 * and the sum of all, below nothing, had every finished execution reaped. */
static void test_a_log_that_grew_after_the_end(void **state)
{
	(void)state;
	start();
	say_exit(7, 0, 0, 0);
	until(agent.acks == 1);
	assert_int_equal(xs->finished_bytes, 0);
	say_data(1, 0, "from the child", 14);
	say_eof(1, 14);
	say_eof(2, 0);
	until(xs->finished_bytes > 14);
	execution_unref(started);
	executions_forget_box(xs, "box");
	assert_int_equal(xs->finished_bytes, 0);
}

static void test_answer_to_exec_lost(void **state)
{
	(void)state;
	agent.mute_exec = true;
	start();
	assert_int_equal(agent.execs, 2);
	assert_int_equal(agent.attaches, 1);
	say_exit(0, 0, 0, 0);
	finish_well();
}

static void test_execve_fails(void **state)
{
	(void)state;
	agent.fail_exec = TENON__CODE__CODE_EXEC_FAILED;
	begin(false);
	until(answers == 1);
	assert_null(started);
	assert_int_equal(failure.kind, FAIL_EXEC);
	assert_int_equal(failure.errnum, ENOENT);
	assert_string_equal(failure.stage, "execve");
	assert_string_equal(failure.message, "no ?such file");
	until(rows_in_database() == 0);
}

/* A reconnect sends again what was not acknowledged: trimmed. */
static void test_overlap_is_trimmed_and_gap_taken(void **state)
{
	(void)state;
	start();
	say_data(1, 0, "abcdef", 6);
	until(agent.acked[1] == 6);
	agent_drop();
	until(agent.attaches == 1);
	assert_int_equal(agent.attach_end[1], 6);
	say_data(1, 0, "abcdefgh", 8);
	uint8_t gap[16];
	wire_put_u64(gap, 8);
	wire_put_u64(gap + 8, 18);
	say(FRAME_GAP, agent.stream, 1, gap, sizeof gap);
	say_data(1, 18, "z", 1);
	say_exit(0, 9, 19, 0);
	read_all(0);
	assert_string_equal(text, "abcdefgh<10>z");
	assert_int_equal(info().exit_code, -9);
	assert_int_equal(info().status, EXECUTION_COMPLETED);
	finish_well();
}

static void test_lies_end_the_link_and_nothing_else(void **state)
{
	(void)state;
	static uint8_t block[FRAME_DATA_MAX];
	start();
	for (int lie = 0; lie < 6; lie++) {
		unsigned hellos = agent.hellos;
		switch (lie) {
		case 0:
			say_data(1, 1, "hole", 4);
			break;
		case 1:
			say_data(1, agent.limit[1] - 1, "xx", 2);
			break;
		case 2:
			say_eof(1, 5);
			break;
		case 3:
			say_exit(0, 0, UINT64_C(1) << 62, 0);
			break;
		case 4:
			say_eof(0, 5);
			break;
		case 5:
			for (uint64_t at = 0; at + sizeof block <= agent.limit[2]; at += sizeof block)
				say_data(2, at, block, sizeof block);
			break;
		}
		if (lie == 5)
			break; /* within credit: no lie after all */
		until(agent.hellos > hellos && (int)agent.attaches == lie + 1);
		assert_int_equal(info().status, EXECUTION_RUNNING);
	}
	assert_int_equal(agent.goaways, 5);
	say_exit(0, 0, 0, 0);
	finish_well();
}

static void test_restart_resumes_exactly(void **state)
{
	(void)state;
	start();
	char hex[33];
	strcpy(hex, execution_id(started));
	say_data(1, 0, "before ", 7);
	say_eof(2, 0);
	until(agent.acked[1] == 7);
	execution_unref(started);
	tenond_stop();

	tenond_start();
	bool reaped;
	until(agent.attaches == 1);
	assert_int_equal(agent.attach_end[1], 7);
	started = execution_ref(executions_find(xs, "box", hex, &reaped));
	assert_null(executions_find(xs, "another", hex, &reaped));
	assert_int_equal(session_running(session), 1);
	say_eof(2, 0);
	say_data(1, 3, "ore after", 9);
	say_exit(0, 0, 12, 0);
	read_all(0);
	assert_string_equal(text, "before after");
	until(agent.acks == 1);
	execution_unref(started);
	tenond_stop();

	/* Once more: ended, and not drained (stdout was left open). The agent has forgotten it. */
	agent.fail_attach = TENON__CODE__CODE_GONE;
	tenond_start();
	until(agent.attaches == 2);
	started = execution_ref(executions_find(xs, "box", hex, &reaped));
	read_all(7);
	assert_string_equal(text, "after");
	execution_unref(started);
}

static void test_boot_ends(void **state)
{
	(void)state;
	start();
	say_data(1, 0, "half", 4);
	until(agent.acked[1] == 4);
	agent.boot[0] = 2;
	agent.has_row = false;
	agent_drop();
	until(info().status == EXECUTION_KILLED);
	assert_false(info().has_exit);
	assert_int_equal(info().exit_code, -1);
	assert_true(strstr(info().reason, "restarted") != NULL);
	read_all(0);
	assert_string_equal(text, "half");
	execution_unref(started);

	agent.acked[1] = 0;
	start(); /* this one's exit came, its tail did not */
	say_data(1, 0, "half", 4);
	say_exit(5, 0, 10, 0);
	until(agent.acked[1] == 4);
	session_destroy(session, "the VM was stopped");
	struct session_config s = {.executions = xs, .box_id = "box", .socket_path = socket_path};
	assert_int_equal(session_create(&session, &s, NULL), 0);
	read_all(0);
	assert_string_equal(text, "half<6>");
	assert_int_equal(info().status, EXECUTION_COMPLETED);
	assert_int_equal(info().exit_code, 5);
	execution_unref(started);
}

static void test_kill_survives_a_restart(void **state)
{
	(void)state;
	start();
	char hex[33];
	strcpy(hex, execution_id(started));
	agent_drop();
	turns(1);
	execution_kill(started, on_done, &signalled);
	execution_unref(started);
	tenond_stop(); /* finishes what the store was given */
	assert_int_equal(agent.kills, 0);
	tenond_start();
	until(agent.kills == 1);
	bool reaped;
	started = execution_ref(executions_find(xs, "box", hex, &reaped));
	say_exit(0, 9, 0, 0);
	until(info().status == EXECUTION_KILLED);
	assert_int_equal(info().exit_code, -9);
	finish_well();
}

static void test_stranger_is_killed_and_acknowledged(void **state)
{
	(void)state;
	agent.listed_stranger = agent.has_row = true;
	memset(agent.row, 7, 16);
	agent_drop();
	until(agent.attaches == 1 && agent.kills == 1);
	say_exit(0, 9, 0, 0);
	say_eof(1, 0);
	say_eof(2, 0);
	until(agent.acks == 1);
}

/* What is committed but was never asked for. */
static void test_absent_at_restart_is_forgotten(void **state)
{
	(void)state;
	start();
	char hex[33];
	strcpy(hex, execution_id(started));
	execution_unref(started);
	tenond_stop();
	agent.fail_attach = TENON__CODE__CODE_NOT_FOUND;
	tenond_start();
	until(agent.attaches == 1);
	bool reaped;
	until(!executions_find(xs, "box", hex, &reaped));
	assert_false(reaped);
	until(rows_in_database() == 0);
}

static uint64_t flood(uint64_t at, uint64_t to)
{
	static uint8_t block[FRAME_DATA_MAX];
	while (at < to && agent.limit[1] > at) {
		uint64_t n = agent.limit[1] - at < sizeof block ? agent.limit[1] - at : sizeof block;
		say_data(1, at, block, (size_t)n);
		at += n;
		turns(2);
	}
	return at;
}

static void test_reader_holds_the_tail(void **state)
{
	(void)state;
	struct reader *r;
	struct reader_item it;
	unsigned woken = 0;
	start();
	assert_int_equal(reader_open(&r, started, 0, wake, &woken, NULL), 0);
	uint64_t at = 0;
	until((at = flood(at, 64 * MIB)) > 3 * MIB);
	for (int i = 0; i < 300; i++) {
		at = flood(at, 64 * MIB);
		turns(5);
	}
	assert_true(at < 5 * MIB); /* held up: the bound is 4 MiB */
	uint64_t read = 0;
	while (read < 3 * MIB) {
		it = read_item(r, MIB);
		if (it.kind == READ_WAIT) {
			turns(5);
			continue;
		}
		assert_int_equal(it.kind, READ_DATA);
		read += it.len;
	}
	uint64_t before = at;
	until((at = flood(at, 64 * MIB)) > before + MIB);

	/* It goes; nobody holds anything any more: the process is never held up, and the oldest goes. */
	reader_close(r);
	until((at = flood(at, 20 * MIB)) >= 20 * MIB);
	until(agent.acked[1] == at);
	assert_int_equal(reader_open(&r, started, 100, wake, &woken, NULL), 0);
	it = read_item(r, 100);
	assert_int_equal(it.kind, READ_GAP);
	assert_int_equal(it.gap_from, 100);
	assert_true(it.gap_to > 15 * MIB && it.gap_to < 20 * MIB);
	reader_close(r);
	say_exit(0, 0, at, 0);
	finish_well();
}

/* Long data stays in the file until it is loaded, in pieces of any size. */
static void test_long_data_is_loaded_when_it_is_wanted(void **state)
{
	(void)state;
	static uint8_t block[3 * 60000];
	struct reader *r;
	struct reader_item it;
	unsigned woken = 0, left_in_file = 0;
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)(i * 7 + i / 251);
	start();
	for (size_t at = 0; at < sizeof block; at += 60000)
		say_data(1, at, block + at, 60000);
	until(agent.acked[1] == sizeof block);
	assert_int_equal(reader_open(&r, started, 0, wake, &woken, NULL), 0);
	for (uint64_t at = 0; at < sizeof block; at = it.position) {
		uint8_t byte;
		reader_next(r, at % 3 ? 7001 : 65536, &it);
		assert_int_equal(it.kind, READ_DATA);
		left_in_file += !it.data;
		if (!it.data)
			assert_true(pread(it.file, &byte, 1, (off_t)it.at) == 1 && byte == block[at]);
		reader_load(r, &it);
		assert_memory_equal(it.data, block + at, it.len);
	}
	assert_true(left_in_file >= 3);
	reader_close(r);
	say_exit(0, 0, sizeof block, 0);
	finish_well();
}

/* A reader's segment is deleted under it: it goes on with what it has open, then is told the gap. */
static void test_deletion_while_reading(void **state)
{
	(void)state;
	struct reader *r, *other;
	struct reader_item it;
	unsigned woken = 0;
	start();
	assert_int_equal(reader_open(&other, started, 0, wake, &woken, NULL), 0);
	reader_close(other); /* there was one: no grace */
	uint64_t at = flood(0, 2 * MIB);
	until(agent.acked[1] == at);
	assert_int_equal(reader_open(&r, started, 0, wake, &woken, NULL), 0);
	it = read_item(r, 10);
	assert_int_equal(it.kind, READ_DATA);
	reader_close(r);
	until((at = flood(at, 12 * MIB)) >= 12 * MIB);
	until(agent.acked[1] == at);
	assert_int_equal(reader_open(&r, started, 0, wake, &woken, NULL), 0);
	uint64_t seen = 0, gaps = 0;
	while (seen + gaps < at) {
		it = read_item(r, MIB);
		assert_true(it.kind == READ_DATA || it.kind == READ_GAP);
		seen += it.kind == READ_DATA ? it.len : 0;
		gaps += it.kind == READ_GAP ? it.gap_to - it.gap_from : 0;
	}
	assert_int_equal(seen + gaps, at);
	assert_true(seen > 3 * MIB && gaps > 5 * MIB);
	reader_close(r);
	say_exit(0, 0, at, 0);
	finish_well();
}

static void test_stdin(void **state)
{
	(void)state;
	begin(true);
	until(answers == 1);
	execution_write(started, "hello ", 6, on_done, &written);
	until(agent.input_len == 6);
	uint8_t credit[FRAME_SMALL_MAX];
	assert_int_equal(written, 0);
	size_t n = frame_put_credit(credit, agent.stream, CHANNEL_STDIN, 6, 4096);
	send(agent.fd, credit, n, 0);
	until(written == 1);
	agent_drop();
	execution_write(started, "again", 5, on_done, &written);
	execution_close_stdin(started);
	until(agent.input_eof);
	assert_memory_equal(agent.input, "hello again", 11);
	execution_write(started, "x", 1, on_done, &write_failed);
	assert_int_equal(write_failed, 1);
	assert_int_equal(failure.kind, FAIL_CONFLICT);
	say_exit(0, 0, 0, 0);
	finish_well();
}

/* What a plain spec leaves out is absent on the wire too: an agent that has none of it must not be asked. */
static void check_plain(const Tenon__Exec *m)
{
	assert_null(m->tty);
	assert_null(m->seccomp);
	assert_null(m->resources);
	assert_int_equal(m->n_rlimits + m->user.len + m->preset + m->no_new_privs, 0);
	assert_false(m->with_stdin);
	agent.check_exec = NULL;
}

static void check_confined(const Tenon__Exec *m)
{
	assert_int_equal(m->tty->rows, 40);
	assert_int_equal(m->tty->cols, 0);
	assert_true(m->with_stdin);
	assert_int_equal(m->user.len, 6);
	assert_memory_equal(m->user.data, "1000:7", 6);
	assert_int_equal(m->preset, TENON__PRESET__PRESET_MAXIMUM);
	assert_int_equal(m->seccomp->kind_case, TENON__SECCOMP__KIND_UNCONFINED);
	assert_int_equal(m->n_rlimits, 1);
	assert_int_equal(m->rlimits[0]->resource, 7);
	assert_int_equal(m->rlimits[0]->soft, 10);
	assert_true(m->rlimits[0]->hard == UINT64_MAX);
	assert_int_equal(m->resources->memory_max, 1 << 20);
	assert_int_equal(m->resources->cpu_quota_us, 150000);
	agent.check_exec = NULL;
}

static void test_what_a_process_is_given(void **state)
{
	(void)state;
	static const char *const argv[] = {"sh", NULL};
	const struct exec_spec spec = {.argv = argv,
				       .tty = true,
				       .rows = 40,
				       .user = "1000:7",
				       .preset = TENON__PRESET__PRESET_MAXIMUM,
				       .seccomp = SECCOMP_OFF,
				       .rlimits = {{7, 10, UINT64_MAX}},
				       .n_rlimits = 1,
				       .memory_max = 1 << 20,
				       .cpu_quota_us = 150000};
	unsigned resized = 0;
	answers = signalled = 0;
	agent.check_exec = check_confined;
	executions_start(session, &spec, on_started, NULL);
	until(answers == 1);
	assert_null(agent.check_exec);
	execution_resize(started, 50, 132, on_done, &resized);
	until(resized == 1);
	assert_int_equal(agent.rows, 50);
	assert_int_equal(agent.cols, 132);

	/* A terminal's end is told by EOF alone. */
	say_exit(0, 0, UINT64_MAX, 0);
	say_eof(2, 0);
	say_data(1, 0, "$ ", 2);
	until(agent.acked[1] == 2);
	assert_int_equal(info().status, EXECUTION_RUNNING);
	say_eof(1, 2);
	read_all(0);
	assert_string_equal(text, "$ ");
	until(info().status != EXECUTION_RUNNING);
	failure = (struct failure){0};
	execution_resize(started, 1, 1, on_done, &resized);
	assert_int_equal(failure.kind, FAIL_CONFLICT);
	finish_well();
}

static void test_a_plain_spec_asks_for_nothing_more(void **state)
{
	(void)state;
	agent.check_exec = check_plain;
	start();
	assert_null(agent.check_exec);
	say_exit(0, 0, 0, 0);
	finish_well();
}

static void test_discard_is_gone(void **state)
{
	(void)state;
	start();
	char hex[33];
	bool reaped;
	strcpy(hex, execution_id(started));
	execution_discard(started, on_done, &signalled);
	until(agent.kills == 1 && signalled == 1);
	say_exit(0, 9, 0, 0);
	say_eof(1, 0);
	say_eof(2, 0);
	finish_well();
	until(!executions_find(xs, "box", hex, &reaped));
	assert_true(reaped);
	tenond_stop();
	tenond_start();
	assert_null(executions_find(xs, "box", hex, &reaped));
	assert_true(reaped);
	executions_forget_box(xs, "box");
	assert_null(executions_find(xs, "box", hex, &reaped));
	assert_false(reaped);
}

static void test_retention(void **state)
{
	(void)state;
	tenond_stop();
	retention_ms = 50;
	agent.hellos = 0;
	tenond_start();
	until(session_up(session));
	start();
	char hex[33];
	bool reaped;
	strcpy(hex, execution_id(started));
	say_exit(0, 0, 0, 0);
	say_eof(1, 0);
	say_eof(2, 0);
	finish_well();
	until(!executions_find(xs, "box", hex, &reaped));
	assert_true(reaped);
}

#define with_rig(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_rig(test_whole_life),
		with_rig(test_answer_to_exec_lost),
		with_rig(test_credit_when_it_is_wanted),
		with_rig(test_credit_is_owed_for_all_that_was_asked_for),
		with_rig(test_a_log_that_grew_after_the_end),
		with_rig(test_an_exit_need_not_wait_for_its_commit),
		with_rig(test_execve_fails),
		with_rig(test_overlap_is_trimmed_and_gap_taken),
		with_rig(test_lies_end_the_link_and_nothing_else),
		with_rig(test_restart_resumes_exactly),
		with_rig(test_boot_ends),
		with_rig(test_kill_survives_a_restart),
		with_rig(test_stranger_is_killed_and_acknowledged),
		with_rig(test_absent_at_restart_is_forgotten),
		with_rig(test_reader_holds_the_tail),
		with_rig(test_long_data_is_loaded_when_it_is_wanted),
		with_rig(test_deletion_while_reading),
		with_rig(test_stdin),
		with_rig(test_what_a_process_is_given),
		with_rig(test_a_plain_spec_asks_for_nothing_more),
		with_rig(test_discard_is_gone),
		with_rig(test_retention),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
