/* tenon-vmm's command line: what is refused is named, and --ready-fd is found even then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "host-shim/vmm/options.h"

#define NEEDED                                                                                     \
	"--run-dir", "/r", "--state-dir", "/s", "--kernel", "/k", "--initrd", "/i", "--cpus", "2", \
		"--memory", "256", "--accel", "tcg", "--cid", "3"

#define PARSE(o, e, ...)                                                             \
	({                                                                           \
		char *argv_[] = {"tenon-vmm", __VA_ARGS__, NULL};                    \
		options_parse(o, (int)(sizeof argv_ / sizeof *argv_) - 1, argv_, e); \
	})

static void everything_is_taken(void **state)
{
	(void)state;
	struct options o;
	struct err e = {0};
	assert_int_equal(PARSE(&o, &e, NEEDED, "--disk", "/a,b,format=qcow2,readonly=off", "--ready-fd", "9"),
			 0);
	assert_int_equal(o.cpus, 2);
	assert_int_equal(o.memory_mib, 256);
	assert_int_equal(o.cid, 3);
	assert_int_equal(o.ready_fd, 9);
	assert_string_equal(o.machine, "q35");
	assert_int_equal(o.n_disks, 1);
	assert_string_equal(o.disk[0].path, "/a,b");
	assert_string_equal(o.disk[0].format, "qcow2");
	assert_false(o.disk[0].readonly);
	assert_false(o.network);
	options_finish(&o);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--network"), 0);
	assert_true(o.network);
	options_finish(&o);
}

static void refusals_name_the_option(void **state)
{
	(void)state;
	struct options o;
	struct err e;
	const struct {
		const char *option, *value, *named;
	} cases[] = {
		{"--cpus", "0", "--cpus"},     {"--cpus", "+1", "--cpus"},
		{"--cid", "2", "--cid"},       {"--cid", "4294967295", "--cid"},
		{"--accel", "xen", "--accel"}, {"--machine", "pc", "--machine"},
		{"--disk", "/a", "--disk"},    {"--frobnicate", "/a", "--frobnicate"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		e = (struct err){0};
		assert_int_equal(PARSE(&o, &e, NEEDED, (char *)cases[i].option, (char *)cases[i].value),
				 -EINVAL);
		if (!strstr(e.msg, cases[i].named))
			fail_msg("%s %s: %s", cases[i].option, cases[i].value, e.msg);
		options_finish(&o);
	}
	e = (struct err){0};
	assert_int_equal(PARSE(&o, &e, "--run-dir"), -EINVAL);
	assert_non_null(strstr(e.msg, "--run-dir"));
	e = (struct err){0};
	assert_int_equal(PARSE(&o, &e, "--run-dir", "/r"), -EINVAL);
	assert_non_null(strstr(e.msg, "--state-dir is missing"));
	e = (struct err){0};
	assert_int_equal(PARSE(&o, &e, NEEDED, "more"), -EINVAL);
	assert_non_null(strstr(e.msg, "more"));
}

static void who_waits_is_told_even_of_an_early_error(void **state)
{
	(void)state;
	struct options o;
	struct err e = {0};
	assert_int_equal(PARSE(&o, &e, "--cpus", "none", "--memory", "none", "--ready-fd", "7"), -EINVAL);
	assert_int_equal(o.ready_fd, 7);
	assert_non_null(strstr(e.msg, "--cpus")); /* the first one */
	options_finish(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_taken),
		cmocka_unit_test(refusals_name_the_option),
		cmocka_unit_test(who_waits_is_told_even_of_an_early_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
