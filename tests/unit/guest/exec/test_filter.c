/* The cache of filters: built once by a worker, found again by their whole content, forgotten if they fail.
 */
#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "guest/exec/filter.h"

static struct loop loop;
static struct filters filters;
static struct filter *awaited; /* until it is built */
static int result;
static struct err error;
static struct fault fault;

static void on_built(struct filters *x, struct filter *f, int r, const struct err *e)
{
	assert_ptr_equal(x, &filters);
	if (f != awaited)
		return;
	awaited = NULL;
	result = r;
	if (r < 0)
		error = *e;
}

static int setup(void **state)
{
	(void)state;
	struct err e;
	assert_int_equal(loop_init(&loop, &e), 0);
	assert_int_equal(filters_init(&filters, &loop, on_built, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < FILTERS; i++)
		worker_stop(&filters.all[i].worker);
	while (wait(NULL) > 0)
		;
	loop_finish(&loop);
	return 0;
}

static void await(struct filter *f)
{
	awaited = f;
	while (awaited)
		loop_turn(&loop, 0);
}

static struct filter *want_default(uint64_t caps)
{
	struct filter *f;
	assert_int_equal(filters_want(&filters, NULL, caps, &f, &fault), 0);
	return f;
}

/* getpid is refused with that errno. */
static struct filter *want_rules(uint32_t errnum)
{
	ProtobufCBinaryData name = {6, (uint8_t *)"getpid"};
	Tenon__SeccompSyscalls s = TENON__SECCOMP_SYSCALLS__INIT, *list[] = {&s};
	s.n_names = 1;
	s.names = &name;
	s.action = TENON__SECCOMP_ACTION__SECCOMP_ERRNO;
	s.errnum = errnum;
	Tenon__SeccompRules rules = TENON__SECCOMP_RULES__INIT;
	rules.n_syscalls = 1;
	rules.syscalls = list;
	struct filter *f;
	return filters_want(&filters, &rules, 0, &f, &fault) == 0 ? f : NULL;
}

static void one_build_for_all_who_want_the_same(void **state)
{
	(void)state;
	struct filter *f = want_default(0);
	assert_int_equal(f->state, FILTER_BUILDING);
	assert_ptr_equal(want_default(0), f);
	assert_ptr_equal(want_default(1 << CAP_CHOWN), f); /* changes nothing in it */
	assert_ptr_not_equal(want_default(1 << CAP_SYS_CHROOT), f);
	await(f);
	assert_int_equal(result, 0);
	assert_int_equal(f->state, FILTER_READY);
	assert_true(f->length > 100 && f->length <= FILTER_INSTRUCTIONS_MAX);
	assert_ptr_equal(want_default(0), f);
}

static void rules_are_found_by_their_content(void **state)
{
	(void)state;
	struct filter *f = want_rules(1);
	assert_ptr_equal(want_rules(1), f);
	assert_ptr_not_equal(want_rules(2), f);
	assert_ptr_not_equal(want_default(0), f);
}

static void the_longest_unused_goes_first(void **state)
{
	(void)state;
	struct filter *of[FILTERS + 1];
	for (uint32_t i = 0; i < FILTERS; i++) {
		of[i] = want_rules(i + 1);
		await(of[i]);
	}
	assert_ptr_equal(want_rules(1), of[0]);
	struct filter *fresh = want_rules(99);
	assert_ptr_equal(fresh, of[1]);
	assert_int_equal(fresh->state, FILTER_BUILDING);
	assert_ptr_equal(want_rules(1), of[0]);
}

static void none_that_is_being_built_is_evicted(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < FILTERS; i++)
		assert_non_null(want_rules(i + 1));
	assert_null(want_rules(99));
	assert_int_equal(fault.code, TENON__CODE__CODE_RESOURCE_EXHAUSTED);
	assert_non_null(want_rules(1));
}

/* Thousands of conditions on one argument: much work, and in the end more than Linux takes. */
static struct filter *want_giant(void)
{
	enum { N = 2500 };
	static Tenon__SeccompSyscalls s[N], *list[N];
	static Tenon__SeccompArg arg[N], *args[N];
	ProtobufCBinaryData name = {6, (uint8_t *)"socket"};
	for (size_t i = 0; i < N; i++) {
		tenon__seccomp_arg__init(&arg[i]);
		arg[i].op = TENON__SECCOMP_OP__SECCOMP_MASKED_EQ;
		arg[i].value = i * 2 + 1;
		arg[i].value_two = 1;
		args[i] = &arg[i];
		tenon__seccomp_syscalls__init(&s[i]);
		s[i].n_names = s[i].n_args = 1;
		s[i].names = &name;
		s[i].args = &args[i];
		s[i].action = TENON__SECCOMP_ACTION__SECCOMP_ERRNO;
		list[i] = &s[i];
	}
	Tenon__SeccompRules rules = TENON__SECCOMP_RULES__INIT;
	rules.n_syscalls = N;
	rules.syscalls = list;
	struct filter *f;
	assert_int_equal(filters_want(&filters, &rules, 0, &f, &fault), 0);
	return f;
}

static void one_too_long_is_forgotten(void **state)
{
	(void)state;
	struct filter *f = want_giant();
	await(f);
	assert_int_equal(result, -E2BIG);
	assert_non_null(strstr(error.msg, "4096"));
	assert_int_equal(f->state, FILTER_NONE);
}

static void a_worker_that_dies(void **state)
{
	(void)state;
	struct filter *f = want_giant();
	kill(f->worker.pid, SIGKILL);
	await(f);
	assert_int_equal(result, -ECHILD);
	assert_int_equal(f->state, FILTER_NONE);
}

static void a_worker_that_hangs(void **state)
{
	(void)state;
	struct filter *f = want_giant();
	kill(f->worker.pid, SIGSTOP);
	assert_int_equal(f->worker.deadline.at > clock_mono(), true);
	assert_true(f->worker.deadline.at <= clock_mono() + FILTER_BUILD_MS * NSEC_PER_MSEC);
	timer_set(&loop, &f->worker.deadline, clock_mono());
	await(f);
	assert_int_equal(result, -ETIMEDOUT);
	assert_int_equal(f->state, FILTER_NONE);
}

static void rules_that_are_too_big(void **state)
{
	(void)state;
	static uint8_t bytes[FILTER_RULES_MAX];
	ProtobufCBinaryData name = {sizeof bytes, bytes};
	Tenon__SeccompSyscalls s = TENON__SECCOMP_SYSCALLS__INIT, *list[] = {&s};
	s.n_names = 1;
	s.names = &name;
	Tenon__SeccompRules rules = TENON__SECCOMP_RULES__INIT;
	rules.n_syscalls = 1;
	rules.syscalls = list;
	struct filter *f;
	assert_true(filters_want(&filters, &rules, 0, &f, &fault) < 0);
	assert_int_equal(fault.code, TENON__CODE__CODE_RESOURCE_EXHAUSTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_build_for_all_who_want_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(rules_are_found_by_their_content, setup, teardown),
		cmocka_unit_test_setup_teardown(the_longest_unused_goes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(none_that_is_being_built_is_evicted, setup, teardown),
		cmocka_unit_test_setup_teardown(one_too_long_is_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(a_worker_that_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(a_worker_that_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(rules_that_are_too_big, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
