/* A request and its preset, put together. */
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/confine.h"
#include "guest/exec/preset.h"

static const struct rlimit nofile = {1024, 524288};
static struct confine_own own;
static Tenon__Exec req;
static struct confine got;
static struct fault fault;

static int setup(void **state)
{
	(void)state;
	own = (struct confine_own){
		.known = (UINT64_C(1) << 41) - 1, .bounding = (UINT64_C(1) << 41) - 1, .root = true};
	tenon__exec__init(&req);
	return 0;
}

static int take(void)
{
	return confine_take(&got, &req, &own, &nofile, &fault);
}

static void refused(Tenon__Code code, const char *field)
{
	assert_true(take() < 0);
	assert_int_equal(fault.code, code);
	assert_string_equal(fault.field, field);
}

static void nothing_asked_nothing_taken(void **state)
{
	(void)state;
	assert_int_equal(take(), 0);
	assert_int_equal(got.caps, own.bounding);
	assert_int_equal(got.drop_caps, 0);
	assert_int_equal(got.filter, CONFINE_NO_FILTER);
	assert_int_equal(got.limited, 1U << RLIMIT_NOFILE);
	assert_int_equal(got.rlimits[RLIMIT_NOFILE].rlim_cur, 1024);
	assert_false(got.set_nice || got.set_oom || got.no_new_privs);
	struct confine none = got;
	req.preset = TENON__PRESET__PRESET_DEVELOPMENT;
	assert_int_equal(take(), 0);
	assert_memory_equal(&got, &none, sizeof got);
}

static void presets(void **state)
{
	(void)state;
	req.preset = TENON__PRESET__PRESET_STANDARD;
	assert_int_equal(take(), 0);
	assert_int_equal(__builtin_popcountll(got.caps), 14);
	assert_int_equal(got.caps, 0xa80425fb);
	assert_int_equal(got.filter, CONFINE_DEFAULT_FILTER);
	assert_false(got.no_new_privs);
	req.preset = TENON__PRESET__PRESET_MAXIMUM;
	assert_int_equal(take(), 0);
	assert_int_equal(got.caps, 0);
	assert_int_equal(got.drop_caps, own.bounding);
	assert_true(got.no_new_privs);
	assert_int_equal(got.resources.pids_max, 1024);
	assert_true(got.limited & 1U << RLIMIT_CORE);
	assert_int_equal(got.rlimits[RLIMIT_CORE].rlim_max, 0);
	req.preset = 4;
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.preset");
}

static void a_request_goes_on_from_its_preset(void **state)
{
	(void)state;
	req.preset = TENON__PRESET__PRESET_MAXIMUM;
	Tenon__Rlimit core = TENON__RLIMIT__INIT;
	core.resource = RLIMIT_CORE;
	core.soft = core.hard = UINT64_MAX;
	Tenon__Rlimit *list[] = {&core};
	req.n_rlimits = 1;
	req.rlimits = list;
	Tenon__Resources resources = TENON__RESOURCES__INIT;
	resources.memory_max = 1 << 20;
	req.resources = &resources;
	Tenon__Seccomp seccomp = TENON__SECCOMP__INIT;
	Tenon__SeccompUnconfined unconfined = TENON__SECCOMP_UNCONFINED__INIT;
	seccomp.kind_case = TENON__SECCOMP__KIND_UNCONFINED;
	seccomp.unconfined = &unconfined;
	req.seccomp = &seccomp;
	req.cap_add = 1 << CAP_KILL;
	assert_int_equal(take(), 0);
	assert_int_equal(got.rlimits[RLIMIT_CORE].rlim_max, RLIM_INFINITY);
	assert_int_equal(got.resources.pids_max, 1024);
	assert_int_equal(got.resources.memory_max, 1 << 20);
	assert_int_equal(got.filter, CONFINE_NO_FILTER);
	assert_int_equal(got.caps, 1 << CAP_KILL);
	assert_true(got.no_new_privs); /* a request cannot take that back */
	resources.pids_max = 7;
	assert_int_equal(take(), 0);
	assert_int_equal(got.resources.pids_max, 7);
}

static void capabilities(void **state)
{
	(void)state;
	req.cap_drop = UINT64_MAX;
	assert_int_equal(take(), 0);
	assert_int_equal(got.caps, 0);
	req.cap_add = 1 << CAP_CHOWN | UINT64_C(1) << 63; /* the kernel has no 63 */
	assert_int_equal(take(), 0);
	assert_int_equal(got.caps, 1 << CAP_CHOWN);
	own.bounding &= ~(UINT64_C(1) << CAP_CHOWN);
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.cap_add");
	req.cap_add = UINT64_MAX; /* all there are */
	assert_int_equal(take(), 0);
	assert_int_equal(got.caps, own.bounding);
}

static void rlimits_are_checked(void **state)
{
	(void)state;
	Tenon__Rlimit a = TENON__RLIMIT__INIT, b = TENON__RLIMIT__INIT;
	Tenon__Rlimit *list[] = {&a, &b};
	req.n_rlimits = 2;
	req.rlimits = list;
	a.resource = 15;
	assert_int_equal(take(), 0);
	assert_int_equal(got.limited, 1U << RLIMIT_NOFILE | 1U << 15 | 1U << 0);
	a.resource = 16;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.rlimits");
	a.resource = UINT32_MAX;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.rlimits");
	a.resource = b.resource = 3;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.rlimits");
	b.resource = 4;
	b.soft = 2;
	b.hard = 1;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.rlimits");
}

static void scores(void **state)
{
	(void)state;
	req.nice = 20;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.nice");
	req.nice = -21;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.nice");
	req.nice = 0;
	req.oom_score_adj = 1001;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.oom_score_adj");
	req.oom_score_adj = -1001;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.oom_score_adj");
	req.oom_score_adj = 0;
	own.oom_score_adj = -900; /* children do not inherit the agent's own */
	own.nice = 3;
	assert_int_equal(take(), 0);
	assert_true(got.set_oom && got.set_nice);
	own.root = false; /* who has no right to set it back leaves it */
	assert_int_equal(take(), 0);
	assert_false(got.set_oom || got.set_nice);
	req.nice = req.oom_score_adj = 5;
	assert_int_equal(take(), 0);
	assert_true(got.set_oom && got.set_nice);
}

static void resources_are_checked(void **state)
{
	(void)state;
	Tenon__Resources r = TENON__RESOURCES__INIT;
	req.resources = &r;
	r.cpu_quota_us = 999;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.resources.cpu_quota_us");
	r.cpu_quota_us = 1000;
	r.cpu_period_us = 999;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.resources.cpu_period_us");
	r.cpu_period_us = 1000001;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.resources.cpu_period_us");
	r.cpu_period_us = 1000000;
	r.cpu_weight = 10001;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.resources.cpu_weight");
	r.cpu_weight = 10000;
	assert_int_equal(take(), 0);
}

static void a_filter_of_no_kind(void **state)
{
	(void)state;
	Tenon__Seccomp seccomp = TENON__SECCOMP__INIT;
	req.seccomp = &seccomp;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp");
}

static void what_this_process_has(void **state)
{
	(void)state;
	struct confine_own me;
	confine_look(&me);
	assert_true(me.known & UINT64_C(1) << CAP_CHOWN);
	assert_int_equal(me.bounding & ~me.known, 0);
	assert_int_equal(me.effective & ~me.permitted, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_asked_nothing_taken, setup),
		cmocka_unit_test_setup(presets, setup),
		cmocka_unit_test_setup(a_request_goes_on_from_its_preset, setup),
		cmocka_unit_test_setup(capabilities, setup),
		cmocka_unit_test_setup(rlimits_are_checked, setup),
		cmocka_unit_test_setup(scores, setup),
		cmocka_unit_test_setup(resources_are_checked, setup),
		cmocka_unit_test_setup(a_filter_of_no_kind, setup),
		cmocka_unit_test_setup(what_this_process_has, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
