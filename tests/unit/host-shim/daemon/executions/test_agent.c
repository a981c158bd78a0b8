/* Executions over the real agent on this host: a thousand commands, and one whose output must arrive whole
 * although the daemon's process is killed three times and the link is cut all the while. Skipped where
 * build/guest/tenon-init is not built. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host-shim/daemon/executions/executions.h"

#define AGENT "build/guest/tenon-init"
#define LINES 200000
#define DEADLINE_MS 60000

static char dir[64], agent_path[96], cut_path[96];
static pid_t agent = -1, cutter = -1;
static const char *connect_to;

/* ---- a daemon in little, in the process that calls it ---- */
static uv_loop_t loop;
static struct store *store;
static struct executions *xs;
static struct session *session;
static void (*when_up)(void);
static bool asked;

static void on_configured(void *arg, const struct failure *f)
{
	(void)arg;
	if (f) {
		fprintf(stderr, "configure: %s\n", f->message);
		abort();
	}
	when_up();
}

static void on_up(void *arg, const Tenon__Hello *hello)
{
	(void)arg;
	if (asked)
		return; /* a reconnect: the session knows what to do */
	asked = true;
	if (hello->configured) {
		when_up();
		return;
	}
	Tenon__InitramfsRoot here = TENON__INITRAMFS_ROOT__INIT;
	Tenon__Root root = TENON__ROOT__INIT;
	Tenon__Configure c = TENON__CONFIGURE__INIT;
	root.kind_case = TENON__ROOT__KIND_INITRAMFS;
	root.initramfs = &here;
	c.root = &root;
	session_configure(session, &c, 10000, on_configured, NULL);
}

static int count_start(sqlite3 *db, void *arg, struct err *e)
{
	sqlite3_stmt *s;
	(void)e;
	sqlite3_exec(db, "CREATE TABLE IF NOT EXISTS starts (n INTEGER); INSERT INTO starts VALUES (1)", NULL,
		     NULL, NULL);
	if (sqlite3_prepare_v2(db, "SELECT count(*) FROM starts", -1, &s, NULL) != SQLITE_OK)
		return -EIO;
	sqlite3_step(s);
	*(uint64_t *)arg = (uint64_t)sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return 0;
}

static void on_deadline(uv_timer_t *t)
{
	(void)t;
	fprintf(stderr, "not done within %d ms\n", DEADLINE_MS);
	abort();
}

static void daemon_run(void (*up)(void))
{
	char path[128];
	struct err e;
	uint64_t starts = 0;
	uv_timer_t deadline;
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&loop);
	uv_timer_init(&loop, &deadline);
	uv_timer_start(&deadline, on_deadline, DEADLINE_MS, 0);
	snprintf(path, sizeof path, "%s/tenon.db", dir);
	if (store_open(&store, &loop, path, &e) < 0 || store_run(store, count_start, &starts, &e) < 0)
		abort();
	struct executions_config c = {
		.loop = &loop, .store = store, .state_dir = dir, .host_epoch = starts << 32};
	struct session_config s = {.box_id = "box", .socket_path = connect_to, .up = on_up};
	if (executions_create(&xs, &c, &e) < 0)
		abort();
	s.executions = xs;
	when_up = up;
	asked = false;
	if (session_create(&session, &s, &e) < 0)
		abort();
	uv_run(&loop, UV_RUN_DEFAULT);
	session_destroy(session, NULL);
	executions_destroy(xs);
	store_close(store);
	uv_close((uv_handle_t *)&deadline, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
}

/* ---- many commands ---- */
#define COMMANDS 1000
#define AT_ONCE 50

static unsigned begun, ended;

struct command {
	unsigned number;
	struct execution *x;
	struct reader *reader;
	char out[3][64];
	size_t len[3];
};

static void begin_more(void);

static void command_check(struct command *c)
{
	struct execution_info info;
	char expected[64];
	execution_get_info(c->x, &info);
	assert_int_equal(info.status, EXECUTION_COMPLETED);
	assert_int_equal(info.exit_code, c->number % 100);
	for (int channel = 1; channel <= 2; channel++) {
		snprintf(expected, sizeof expected, "%u to %d\n", c->number, channel);
		assert_int_equal(c->len[channel], strlen(expected));
		assert_memory_equal(c->out[channel], expected, strlen(expected));
	}
	reader_close(c->reader);
	execution_unref(c->x);
	free(c);
	ended++;
	begin_more();
}

static void command_read(void *arg)
{
	struct command *c = arg;
	struct reader_item it;
	for (;;) {
		reader_next(c->reader, sizeof c->out[0], &it);
		reader_load(c->reader, &it);
		if (it.kind == READ_WAIT)
			return;
		if (it.kind == READ_EXIT)
			break;
		assert_int_equal(it.kind, READ_DATA);
		assert_true(c->len[it.channel] + it.len <= sizeof c->out[0]);
		memcpy(c->out[it.channel] + c->len[it.channel], it.data, it.len);
		c->len[it.channel] += it.len;
	}
	command_check(c);
}

static void command_started(void *arg, struct execution *x, const struct failure *f)
{
	struct command *c = arg;
	if (f)
		fprintf(stderr, "start: %s\n", f->message);
	assert_non_null(x);
	c->x = execution_ref(x);
	assert_int_equal(reader_open(&c->reader, x, 0, command_read, c, NULL), 0);
	command_read(c);
}

static void begin_more(void)
{
	if (ended == COMMANDS)
		uv_stop(&loop);
	while (begun < COMMANDS && begun - ended < AT_ONCE) {
		struct command *c = calloc(1, sizeof *c);
		char script[128];
		c->number = begun++;
		snprintf(script, sizeof script, "echo %u to 1; echo %u to 2 >&2; exit %u", c->number,
			 c->number, c->number % 100);
		const char *const argv[] = {"/bin/sh", "-c", script, NULL};
		executions_start(session, &(struct exec_spec){.argv = argv}, command_started, c);
	}
}

/* ---- one long output ---- */
static char kept_id[40], id_file[96];
static unsigned next_line = 1;
static struct execution *lines_x;
static struct reader *lines_reader;

static void lines_read(void *arg)
{
	static char line[16];
	static size_t len;
	struct reader_item it;
	(void)arg;
	for (;;) {
		reader_next(lines_reader, 65536, &it);
		reader_load(lines_reader, &it);
		if (it.kind == READ_WAIT)
			return;
		if (it.kind != READ_DATA)
			break;
		for (size_t i = 0; i < it.len; i++) {
			if (it.data[i] != '\n') {
				line[len++] = (char)it.data[i];
				line[len] = '\0';
				continue;
			}
			if (strtoul(line, NULL, 10) != next_line++)
				abort();
			len = 0;
		}
	}
	struct execution_info info;
	execution_get_info(lines_x, &info);
	if (it.kind != READ_EXIT || next_line != LINES + 1 || info.exit_code != 7)
		abort();
	reader_close(lines_reader);
	execution_unref(lines_x);
	uv_stop(&loop);
}

static void lines_open(struct execution *x)
{
	lines_x = execution_ref(x);
	if (reader_open(&lines_reader, x, 0, lines_read, NULL, NULL) < 0)
		abort();
	lines_read(NULL);
}

static void lines_started(void *arg, struct execution *x, const struct failure *f)
{
	(void)arg;
	(void)f;
	FILE *out = fopen(id_file, "w");
	if (!x || !out)
		abort();
	fputs(execution_id(x), out);
	fclose(out);
	lines_open(x);
}

static void lines_begin(void)
{
	static const char *const argv[] = {"/bin/sh", "-c",
					   "k=0; while [ $k -lt 200 ]; do seq $((k*1000+1)) "
					   "$((k*1000+1000)); k=$((k+1)); sleep 0.00$((k%9)); done; exit 7",
					   NULL};
	executions_start(session, &(struct exec_spec){.argv = argv}, lines_started, NULL);
}

static void lines_resume(void)
{
	bool reaped;
	struct execution *x = executions_find(xs, "box", kept_id, &reaped);
	if (!x)
		abort();
	lines_open(x);
}

static pid_t daemon_fork(void (*up)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		daemon_run(up);
		_exit(0);
	}
	return pid;
}

static void nap(unsigned ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* ---- the rig ---- */
static int dial(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	strcpy(to.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Passes bytes on between the first caller and the agent, in pieces of any size, for a while; then cuts, and
 * takes the next. */
static void cut_for_ever(int listener)
{
	static char buf[200000];
	srandom(1);
	for (;;) {
		struct pollfd p[2] = {{accept(listener, NULL, NULL), POLLIN, 0},
				      {dial(agent_path), POLLIN, 0}};
		struct timespec now, end;
		clock_gettime(CLOCK_MONOTONIC, &end);
		uint64_t until = (uint64_t)end.tv_sec * 1000 + (uint64_t)end.tv_nsec / 1000000 + 50 +
				 (uint64_t)random() % 250;
		for (bool open = true; open && poll(p, 2, 10) >= 0;) {
			for (int i = 0; i < 2 && open; i++) {
				if (!p[i].revents)
					continue;
				ssize_t n = read(p[i].fd, buf, 1 + (size_t)random() % sizeof buf);
				open = n > 0 && send(p[!i].fd, buf, (size_t)n, MSG_NOSIGNAL) == n;
			}
			clock_gettime(CLOCK_MONOTONIC, &now);
			open = open && (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 < until;
		}
		close(p[0].fd);
		close(p[1].fd);
	}
}

static int setup(void **state)
{
	(void)state;
	if (access(AGENT, X_OK) < 0)
		return 0;
	strcpy(dir, "/tmp/tenon-agent-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(agent_path, sizeof agent_path, "%s/agent", dir);
	snprintf(cut_path, sizeof cut_path, "%s/cut", dir);
	snprintf(id_file, sizeof id_file, "%s/id", dir);
	agent = fork();
	if (agent == 0) {
		char listen_on[128];
		snprintf(listen_on, sizeof listen_on, "unix:%s", agent_path);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(AGENT, AGENT, "--listen", listen_on, NULL);
		_exit(127);
	}
	int fd = -1;
	for (int i = 0; i < 500 && fd < 0; i++) {
		nap(10);
		fd = dial(agent_path);
	}
	if (fd < 0)
		return -1;
	close(fd);

	struct sockaddr_un at = {.sun_family = AF_UNIX};
	memcpy(at.sun_path, cut_path, strlen(cut_path) + 1);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 8) < 0)
		return -1;
	cutter = fork();
	if (cutter == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		cut_for_ever(listener);
	}
	close(listener);
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
	if (agent < 0)
		return 0;
	kill(agent, SIGKILL);
	kill(cutter, SIGKILL);
	waitpid(agent, NULL, 0);
	waitpid(cutter, NULL, 0);
	agent = cutter = -1;
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void test_a_thousand_commands(void **state)
{
	(void)state;
	if (agent < 0)
		skip();
	connect_to = agent_path;
	begun = ended = 0;
	daemon_run(begin_more);
	assert_int_equal(ended, COMMANDS);
}

static void test_killed_thrice_and_cut(void **state)
{
	(void)state;
	if (agent < 0)
		skip();
	connect_to = cut_path;
	pid_t pid = daemon_fork(lines_begin);
	FILE *in = NULL;
	for (int i = 0; i < 1000 && !in; i++) {
		nap(10);
		in = fopen(id_file, "r");
		if (in && !fgets(kept_id, sizeof kept_id, in)) {
			fclose(in);
			in = NULL;
		}
	}
	assert_non_null(in);
	fclose(in);
	int status;
	for (int i = 0; i < 3; i++) {
		nap(200);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		pid = daemon_fork(lines_resume);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_thousand_commands, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_thrice_and_cut, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
