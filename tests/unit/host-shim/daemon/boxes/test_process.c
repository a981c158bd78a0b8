/* process: gates, output, deadlines, identities, adoption. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/process.h"

struct fixture {
	uv_loop_t loop;
	struct process *p;
	int exits, status;
	char output[256];
};

static void on_exited(void *arg, int status, const char *output)
{
	struct fixture *f = arg;
	f->exits++;
	f->status = status;
	snprintf(f->output, sizeof f->output, "%s", output);
	process_destroy(f->p);
	f->p = NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	uv_loop_init(&f->loop);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	process_destroy(f->p);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f);
	return 0;
}

static void spawn(struct fixture *f, const char *script, struct process_config c)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct err e = {0};
	c.loop = &f->loop;
	c.argv = argv;
	c.arg = f;
	c.exited = on_exited;
	if (!c.inherit)
		c.inherit = -1;
	assert_int_equal(process_spawn(&f->p, &c, &e), 0);
}

static void exit_and_output(void **state)
{
	struct fixture *f = *state;
	spawn(f, "echo out; echo err >&2; exit 7", (struct process_config){.capture = true});
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->exits, 1);
	assert_true(WIFEXITED(f->status));
	assert_int_equal(WEXITSTATUS(f->status), 7);
	assert_string_equal(f->output, "out\nerr\n");
}

/* Its words for people still come by themselves. */
static void given_ends(void **state)
{
	struct fixture *f = *state;
	int in[2], out[2];
	char text[16] = "";
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], "through", 7), 7);
	close(in[1]);
	spawn(f, "cat; echo word >&2",
	      (struct process_config){.capture = true, .input = in[0], .output = out[1]});
	close(in[0]);
	close(out[1]);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(read(out[0], text, sizeof text), 7);
	assert_string_equal(text, "through");
	assert_int_equal(read(out[0], text, sizeof text), 0);
	assert_string_equal(f->output, "word\n");
	close(out[0]);
}

static void no_such_program(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"/no/such/program", NULL};
	struct process_config c = {
		.loop = &f->loop, .argv = argv, .inherit = -1, .arg = f, .exited = on_exited};
	assert_int_equal(process_spawn(&f->p, &c, NULL), 0);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(WEXITSTATUS(f->status), 127);
}

static void deadline(void **state)
{
	struct fixture *f = *state;
	spawn(f, "exec sleep 100", (struct process_config){.deadline_ms = 50});
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_true(WIFSIGNALED(f->status));
	assert_int_equal(WTERMSIG(f->status), SIGKILL);
}

static void inherits_what_it_should(void **state)
{
	struct fixture *f = *state;
	int leak = open("/dev/null", O_RDONLY), ends[2]; /* leak: on purpose without O_CLOEXEC */
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	char script[128];
	snprintf(script, sizeof script, "echo given >/proc/self/fd/%d; ls /proc/self/fd | grep -x %d",
		 ends[1], leak);
	spawn(f, script, (struct process_config){.inherit = ends[1], .capture = true});
	uv_run(&f->loop, UV_RUN_DEFAULT);
	char line[16] = "";
	close(ends[1]);
	assert_int_equal(read(ends[0], line, sizeof line), 6);
	assert_string_equal(line, "given\n");
	assert_string_equal(f->output, "");
	close(leak);
	close(ends[0]);
}

static void on_tick(uv_timer_t *t)
{
	process_release(((struct fixture *)t->data)->p);
	uv_close((uv_handle_t *)t, NULL);
}

static void gate_opens(void **state)
{
	struct fixture *f = *state;
	uv_timer_t t;
	spawn(f, "echo through", (struct process_config){.gated = true, .capture = true});
	uv_timer_init(&f->loop, &t);
	t.data = f;
	uv_timer_start(&t, on_tick, 30, 0);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_string_equal(f->output, "through\n");
}

/* Our death closes the gate: here a process of our own dies in our place. */
static void gate_closes_with_its_owner(void **state)
{
	(void)state;
	char proof[] = "/tmp/tenon-gate-XXXXXX";
	int fd = mkstemp(proof), ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t owner = fork();
	if (owner == 0) {
		struct fixture f = {0};
		char script[96];
		uv_loop_init(&f.loop);
		snprintf(script, sizeof script, "echo ran > %s", proof);
		spawn(&f, script,
		      (struct process_config){.gated = true, .detached = true, .inherit = ends[1]});
		_exit(0);
	}
	waitpid(owner, NULL, 0);
	close(ends[1]);
	/* EOF: nobody holds the other end, so the child is gone too. */
	char c;
	assert_int_equal(read(ends[0], &c, 1), 0);
	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
	close(ends[0]);
	unlink(proof);
}

static void terminated_at_the_gate(void **state)
{
	struct fixture *f = *state;
	spawn(f, "echo never", (struct process_config){.gated = true, .detached = true, .capture = true});
	process_kill(f->p, SIGTERM);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(WTERMSIG(f->status), SIGTERM);
	assert_string_equal(f->output, "");
}

static void on_any_signal(uv_signal_t *s, int signo)
{
	++*(int *)s->data;
	(void)signo;
}

/* A handler of ours that still stood in the child would tell us of a signal that was not ours. */
static void childs_signals_are_its_own(void **state)
{
	struct fixture *f = *state;
	uv_signal_t s;
	int heard = 0;
	uv_signal_init(&f->loop, &s);
	s.data = &heard;
	uv_signal_start(&s, on_any_signal, SIGTERM);
	uv_unref((uv_handle_t *)&s);
	for (int i = 0; i < 20; i++) {
		spawn(f, "echo never", (struct process_config){.gated = true});
		process_kill(f->p, SIGTERM);
		uv_run(&f->loop, UV_RUN_DEFAULT);
		assert_int_equal(WTERMSIG(f->status), SIGTERM);
	}
	assert_int_equal(heard, 0);
	uv_close((uv_handle_t *)&s, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void adoption(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fork();
	if (pid == 0) {
		execlp("sleep", "sleep", "100", NULL);
		_exit(127);
	}
	struct process_id id, wrong;
	assert_int_equal(process_identify(&id, pid), 0);
	assert_int_equal(strlen(id.boot), 36);
	wrong = id;
	wrong.ticks++;
	assert_int_equal(process_adopt(&f->p, &f->loop, &wrong, on_exited, f, NULL), -ESRCH);
	wrong = id;
	wrong.boot[0] ^= 1;
	assert_int_equal(process_adopt(&f->p, &f->loop, &wrong, on_exited, f, NULL), -ESRCH);

	assert_int_equal(process_adopt(&f->p, &f->loop, &id, on_exited, f, NULL), 0);
	process_kill(f->p, SIGKILL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->exits, 1);
	assert_int_equal(f->status, -1);
	waitpid(pid, NULL, 0);
	assert_int_equal(process_adopt(&f->p, &f->loop, &id, on_exited, f, NULL), -ESRCH);
}

static void names_do_not_confuse(void **state)
{
	(void)state;
	struct process_id mine, named;
	assert_int_equal(process_identify(&mine, getpid()), 0);
	FILE *comm = fopen("/proc/self/comm", "w");
	fputs(") R 1 (x) 2", comm);
	fclose(comm);
	assert_int_equal(process_identify(&named, getpid()), 0);
	assert_int_equal(named.ticks, mine.ticks);
	assert_int_equal(process_identify(&named, 0x7fffffff), -ESRCH);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(exit_and_output, setup, teardown),
		cmocka_unit_test_setup_teardown(given_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(no_such_program, setup, teardown),
		cmocka_unit_test_setup_teardown(deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(inherits_what_it_should, setup, teardown),
		cmocka_unit_test_setup_teardown(gate_opens, setup, teardown),
		cmocka_unit_test(gate_closes_with_its_owner),
		cmocka_unit_test_setup_teardown(terminated_at_the_gate, setup, teardown),
		cmocka_unit_test_setup_teardown(childs_signals_are_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(adoption, setup, teardown),
		cmocka_unit_test(names_do_not_confuse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
