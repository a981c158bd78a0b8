/* Work in a forked process: its word, its descriptor, its deadline, its death. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/worker.h"

static struct loop loop;
static struct worker worker;
static int result, handed_over;
static struct err error;

static void on_done(struct worker *w, int r, const struct err *e, int fd)
{
	(void)w;
	result = r;
	error = *e;
	handed_over = fd;
}

static void run(int (*work)(void *, int *, struct err *), void *arg, int keep, unsigned ms)
{
	result = 1;
	handed_over = -1;
	assert_int_equal(loop_init(&loop, NULL), 0);
	worker_init(&worker, &loop, on_done);
	assert_int_equal(worker_start(&worker, work, arg, keep, ms), 0);
	while (result == 1)
		loop_turn(&loop, 0);
	assert_false(worker_running(&worker));
	pid_t pid = wait(NULL);
	assert_true(worker_reaped(&worker, pid));
	assert_false(worker_reaped(&worker, pid));
	loop_finish(&loop);
}

static int fails(void *arg, int *fd, struct err *e)
{
	(void)fd;
	return err_set(e, "mount", *(int *)arg, "it does not mount");
}

static int hands_over(void *arg, int *fd, struct err *e)
{
	(void)arg;
	(void)e;
	int fds[2];
	if (pipe(fds) < 0 || write(fds[1], "word", 4) != 4)
		return -errno;
	*fd = fds[0];
	return 0;
}

static int dies(void *arg, int *fd, struct err *e)
{
	(void)arg;
	(void)fd;
	(void)e;
	_exit(0);
}

static int hangs(void *arg, int *fd, struct err *e)
{
	(void)arg;
	(void)fd;
	(void)e;
	pause();
	return 0;
}

/* Only 0–2, the one that was kept and its own socket are open. */
static int counts(void *arg, int *fd, struct err *e)
{
	(void)fd;
	int open = 0;
	for (int i = 3; i < 200; i++)
		open += fcntl(i, F_GETFD) >= 0;
	bool kept = fcntl(*(int *)arg, F_GETFD) >= 0;
	return open == 2 && kept ? 0 : err_set(e, "fds", EBADF, "%d are open", open);
}

static void its_error_comes_back(void **state)
{
	(void)state;
	int errnum = EINVAL;
	run(fails, &errnum, -1, 5000);
	assert_int_equal(result, -EINVAL);
	assert_string_equal(error.stage, "mount");
	assert_string_equal(error.msg, "it does not mount");
}

static void its_descriptor_comes_along(void **state)
{
	(void)state;
	char word[8];
	run(hands_over, NULL, -1, 5000);
	assert_int_equal(result, 0);
	assert_int_equal(read(handed_over, word, sizeof word), 4);
	assert_memory_equal(word, "word", 4);
	close(handed_over);
}

static void its_death_is_noticed(void **state)
{
	(void)state;
	run(dies, NULL, -1, 5000);
	assert_int_equal(result, -ECHILD);
}

static void its_deadline_is_kept(void **state)
{
	(void)state;
	uint64_t began = clock_mono();
	run(hangs, NULL, -1, 50);
	assert_int_equal(result, -ETIMEDOUT);
	assert_true(clock_mono() - began < 5 * NSEC_PER_SEC);
}

static void it_holds_nothing_else_open(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) { /* the kept one below, between and above */
		int low = open("/dev/null", O_RDONLY), kept = fcntl(low, F_DUPFD, 3 + i * 50);
		run(counts, &kept, kept, 5000);
		assert_int_equal(result, 0);
		close(low);
		close(kept);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_error_comes_back),       cmocka_unit_test(its_descriptor_comes_along),
		cmocka_unit_test(its_death_is_noticed),       cmocka_unit_test(its_deadline_is_kept),
		cmocka_unit_test(it_holds_nothing_else_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
