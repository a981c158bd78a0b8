/* Work in a forked process: its word, its descriptors, its deadline, its death. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/worker.h"

static struct loop loop;
static struct worker worker;
static int result, handed_over[WORKER_FDS];
static struct err error;

static void on_done(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	(void)w;
	result = r;
	error = *e;
	memcpy(handed_over, fds, sizeof handed_over);
}

static void start(int (*work)(void *, int[WORKER_FDS], struct err *), void *arg, const int *keep, int n,
		  unsigned ms)
{
	result = 1;
	memset(handed_over, 0, sizeof handed_over);
	assert_int_equal(loop_init(&loop, NULL), 0);
	worker_init(&worker, &loop, on_done);
	assert_int_equal(worker_start(&worker, work, arg, keep, n, ms), 0);
}

/* The number of a running one is found while it runs, and once. */
static void reap(void)
{
	pid_t pid = wait(NULL);
	bool ran = worker_running(&worker);
	assert_int_equal(worker_reaped(pid), ran);
	assert_false(worker_reaped(pid));
}

static void run(int (*work)(void *, int[WORKER_FDS], struct err *), void *arg, const int *keep, int n,
		unsigned ms)
{
	start(work, arg, keep, n, ms);
	while (result == 1)
		loop_turn(&loop, 0);
	assert_false(worker_running(&worker));
	reap();
	loop_finish(&loop);
}

static int fails(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	return err_set(e, "mount", *(int *)arg, "it does not mount");
}

/* Two, with a place left out between them. */
static int hands_over(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)arg;
	(void)e;
	int ends[2];
	if (pipe(ends) < 0)
		return -errno;
	fds[0] = ends[0];
	fds[2] = ends[1];
	return 0;
}

static int hands_over_and_fails(void *arg, int fds[WORKER_FDS], struct err *e)
{
	hands_over(arg, fds, e);
	return err_set(e, "mount", EIO, "too late");
}

/* Offers an end of a socket pair, waits for a byte from the other side, and says what it was. */
static int offers(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)arg;
	(void)fds;
	int pair[2];
	uint8_t byte;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -errno;
	worker_offer((const int[WORKER_FDS]){-1, pair[1], -1, -1});
	return read(pair[0], &byte, 1) == 1 ? err_set(e, "offer", byte, "the answer") : -EIO;
}

static int dies(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)arg;
	(void)fds;
	(void)e;
	_exit(0);
}

static int hangs(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)arg;
	(void)fds;
	(void)e;
	pause();
	return 0;
}

#define KEPT 3
struct kept {
	int fd[KEPT];
};

/* Only 0–2, those that were kept and its own socket are open. */
static int counts(void *arg, int fds[WORKER_FDS], struct err *e)
{
	(void)fds;
	const struct kept *kept = arg;
	int open = 0, there = 0;
	for (int i = 3; i < 300; i++)
		open += fcntl(i, F_GETFD) >= 0;
	for (int i = 0; i < KEPT; i++)
		there += fcntl(kept->fd[i], F_GETFD) >= 0;
	return open == KEPT + 1 && there == KEPT ? 0 : err_set(e, "fds", EBADF, "%d are open", open);
}

static void its_error_comes_back(void **state)
{
	(void)state;
	int errnum = EINVAL;
	run(fails, &errnum, NULL, 0, 5000);
	assert_int_equal(result, -EINVAL);
	assert_string_equal(error.stage, "mount");
	assert_string_equal(error.msg, "it does not mount");
}

static void its_descriptors_come_along_in_their_places(void **state)
{
	(void)state;
	char word[8];
	run(hands_over, NULL, NULL, 0, 5000);
	assert_int_equal(result, 0);
	assert_int_equal(handed_over[1], -1);
	assert_int_equal(handed_over[3], -1);
	assert_int_equal(write(handed_over[2], "word", 4), 4);
	assert_int_equal(read(handed_over[0], word, sizeof word), 4);
	assert_memory_equal(word, "word", 4);
	assert_true(fcntl(handed_over[0], F_GETFD) & FD_CLOEXEC);
	close(handed_over[0]);
	close(handed_over[2]);
}

static void a_failure_brings_none(void **state)
{
	(void)state;
	run(hands_over_and_fails, NULL, NULL, 0, 5000);
	assert_int_equal(result, -EIO);
	for (int i = 0; i < WORKER_FDS; i++)
		assert_int_equal(handed_over[i], -1);
}

static void no_room_for_them_is_an_error(void **state)
{
	(void)state;
	struct rlimit was, low;
	getrlimit(RLIMIT_NOFILE, &was);
	start(hands_over, NULL, NULL, 0, 5000);
	int next = open("/dev/null", O_RDONLY);
	low = (struct rlimit){(rlim_t)next + 1, was.rlim_max}; /* room for one */
	close(next);
	setrlimit(RLIMIT_NOFILE, &low);
	while (result == 1)
		loop_turn(&loop, 0);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(result, -EMFILE);
	assert_int_equal(fcntl(next, F_GETFD), -1); /* the one that came was closed */
	reap();
	loop_finish(&loop);
}

static void answer(struct worker *w, int fds[WORKER_FDS])
{
	assert_ptr_equal(w, &worker);
	assert_true(worker_running(w) && !workers_stand_alone());
	assert_true(fds[0] < 0 && fds[2] < 0 && fds[3] < 0);
	uint32_t pids[2];
	assert_int_equal(workers_list(pids, 2), 1);
	assert_int_equal(pids[0], w->pid);
	assert_int_equal(write(fds[1], "\x07", 1), 1);
	close(fds[1]);
}

static void an_offer_does_not_end_it(void **state)
{
	(void)state;
	assert_true(workers_stand_alone());
	start(offers, NULL, NULL, 0, 5000);
	worker.offered = answer;
	while (result == 1)
		loop_turn(&loop, 0);
	reap();
	loop_finish(&loop);
	assert_int_equal(result, -7);
	assert_string_equal(error.stage, "offer");
}

static void its_death_is_noticed(void **state)
{
	(void)state;
	run(dies, NULL, NULL, 0, 5000);
	assert_int_equal(result, -ECHILD);
}

static void its_deadline_is_kept(void **state)
{
	(void)state;
	uint64_t began = clock_mono();
	run(hangs, NULL, NULL, 0, 50);
	assert_int_equal(result, -ETIMEDOUT);
	assert_true(clock_mono() - began < 5 * NSEC_PER_SEC);
}

static void without_a_deadline_it_is_waited_for(void **state)
{
	(void)state;
	start(hangs, NULL, NULL, 0, 0);
	loop_turn(&loop, 1);
	assert_true(worker_running(&worker));
	assert_null(worker.deadline.next);
	worker_stop(&worker);
	assert_false(worker_running(&worker));
	reap();
	loop_turn(&loop, 1);
	assert_int_equal(result, 1); /* it was stopped: no word of it */
	loop_finish(&loop);
}

static void the_reaper_finds_any_that_runs(void **state)
{
	(void)state;
	struct worker many[5];
	assert_int_equal(loop_init(&loop, NULL), 0);
	for (int i = 0; i < 5; i++) {
		worker_init(&many[i], &loop, on_done);
		assert_int_equal(worker_start(&many[i], hangs, NULL, NULL, 0, 0), 0);
	}
	assert_false(worker_reaped(getpid()));
	for (int i = 0; i < 5; i++) {
		int k = (i + 2) % 5; /* from the middle, the ends too */
		pid_t pid = many[k].pid;
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_true(worker_reaped(pid));
		assert_int_equal(many[k].pid, 0);
		worker_stop(&many[k]);
	}
	loop_finish(&loop);
}

static void it_holds_nothing_else_open(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) { /* kept ones below, between and above what is not */
		int low = open("/dev/null", O_RDONLY), other = open("/dev/null", O_RDONLY);
		struct kept kept = {
			{fcntl(low, F_DUPFD, 100 + i * 50), low, fcntl(low, F_DUPFD, 3 + i * 50)}};
		int keep[KEPT + 1] = {kept.fd[0], -1, kept.fd[1], kept.fd[2]};
		run(counts, &kept, keep, KEPT + 1, 5000);
		assert_int_equal(result, 0);
		close(other);
		for (int k = 0; k < KEPT; k++)
			close(kept.fd[k]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_error_comes_back),
		cmocka_unit_test(its_descriptors_come_along_in_their_places),
		cmocka_unit_test(a_failure_brings_none),
		cmocka_unit_test(no_room_for_them_is_an_error),
		cmocka_unit_test(an_offer_does_not_end_it),
		cmocka_unit_test(its_death_is_noticed),
		cmocka_unit_test(its_deadline_is_kept),
		cmocka_unit_test(without_a_deadline_it_is_waited_for),
		cmocka_unit_test(the_reaper_finds_any_that_runs),
		cmocka_unit_test(it_holds_nothing_else_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
