/* Seccomp rules of the OCI form: which are taken, and what comes of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "guest/exec/rules.h"
#include "tests/unit/guest/exec/bpf.h"

#define REFUSED(errnum) (SECCOMP_RET_ERRNO | (errnum))

static Tenon__SeccompRules rules;
static Tenon__SeccompSyscalls first, second, *both[] = {&first, &second};
static Tenon__SeccompArg arg, other, *args[] = {&arg, &other};
static ProtobufCBinaryData name;
static struct fault fault;
static struct bpf program;

/* Everything allowed, but for one rule about personality. */
static int setup(void **state)
{
	(void)state;
	tenon__seccomp_rules__init(&rules);
	tenon__seccomp_syscalls__init(&first);
	tenon__seccomp_syscalls__init(&second);
	tenon__seccomp_arg__init(&arg);
	tenon__seccomp_arg__init(&other);
	name = (ProtobufCBinaryData){11, (uint8_t *)"personality"};
	first.n_names = second.n_names = 1;
	first.names = second.names = &name;
	first.action = second.action = TENON__SECCOMP_ACTION__SECCOMP_ERRNO;
	first.args = second.args = args;
	rules.n_syscalls = 1;
	rules.syscalls = both;
	return 0;
}

static void refused(Tenon__Code code, const char *field)
{
	fault.field = "";
	assert_true(rules_check(&rules, &fault) < 0);
	assert_int_equal(fault.code, code);
	assert_string_equal(fault.field, field);
}

static uint32_t ask(uint64_t arg0)
{
	struct err e;
	assert_int_equal(rules_check(&rules, &fault), 0);
	int fd = memfd_create("rules", 0);
	assert_int_equal(rules_build(&rules, fd, &e), 0);
	assert_true(bpf_read(&program, fd));
	close(fd);
	return bpf_run(&program, AUDIT_ARCH_X86_64, SYS_personality, arg0);
}

static void what_is_unknown_is_named(void **state)
{
	(void)state;
	assert_int_equal(rules_check(&rules, &fault), 0);
	first.action = 6;
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.seccomp.rules.syscalls.action");
	first.action = -1;
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.seccomp.rules.syscalls.action");
	first.action = 1;
	first.errnum = 4096;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.action");
	first.errnum = 0;
	rules.default_action = 99;
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.seccomp.rules.default_action");
	rules.default_action = 0;
	Tenon__SeccompArch arch = 3;
	rules.n_architectures = 1;
	rules.architectures = &arch;
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.seccomp.rules.architectures");
}

static void arguments_are_checked(void **state)
{
	(void)state;
	first.n_args = 1;
	arg.index = 6;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.args.index");
	arg.index = UINT32_MAX;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.args.index");
	arg.index = 0;
	arg.op = 7;
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.seccomp.rules.syscalls.args.op");
	arg.op = 0;
	first.n_args = 2; /* libseccomp cannot have both hold */
	refused(TENON__CODE__CODE_UNSUPPORTED, "exec.seccomp.rules.syscalls.args");
	other.index = 5;
	assert_int_equal(rules_check(&rules, &fault), 0);
}

static void names_are_bounded(void **state)
{
	(void)state;
	static ProtobufCBinaryData many[RULES_NAMES_MAX];
	static uint8_t long_name[RULES_NAME_MAX + 1];
	for (size_t i = 0; i < RULES_NAMES_MAX; i++)
		many[i] = name;
	rules.n_syscalls = 2;
	first.n_names = RULES_NAMES_MAX - 1;
	first.names = many;
	assert_int_equal(rules_check(&rules, &fault), 0);
	first.n_names++;
	refused(TENON__CODE__CODE_RESOURCE_EXHAUSTED, "exec.seccomp.rules.syscalls");
	first.n_names = 0;
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.names");
	first.n_names = 1;
	first.names = &name;
	name = (ProtobufCBinaryData){3, (uint8_t *)"a\0b"};
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.names");
	memset(long_name, 'a', sizeof long_name);
	name = (ProtobufCBinaryData){sizeof long_name, long_name};
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.names");
	name = (ProtobufCBinaryData){0, NULL};
	refused(TENON__CODE__CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.names");
}

static void actions(void **state)
{
	(void)state;
	static const struct {
		Tenon__SeccompAction action;
		uint32_t errnum, answer;
	} cases[] = {{TENON__SECCOMP_ACTION__SECCOMP_ERRNO, 0, REFUSED(EPERM)},
		     {TENON__SECCOMP_ACTION__SECCOMP_ERRNO, 77, REFUSED(77)},
		     {TENON__SECCOMP_ACTION__SECCOMP_KILL_PROCESS, 0, SECCOMP_RET_KILL_PROCESS},
		     {TENON__SECCOMP_ACTION__SECCOMP_KILL_THREAD, 0, SECCOMP_RET_KILL_THREAD},
		     {TENON__SECCOMP_ACTION__SECCOMP_TRAP, 0, SECCOMP_RET_TRAP},
		     {TENON__SECCOMP_ACTION__SECCOMP_LOG, 0, SECCOMP_RET_LOG},
		     {TENON__SECCOMP_ACTION__SECCOMP_ALLOW, 0, SECCOMP_RET_ALLOW}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		first.action = cases[i].action;
		first.errnum = cases[i].errnum;
		assert_int_equal(ask(0), cases[i].answer);
		assert_int_equal(bpf_run(&program, AUDIT_ARCH_X86_64, SYS_read, 0), SECCOMP_RET_ALLOW);
	}
	rules.default_action = TENON__SECCOMP_ACTION__SECCOMP_ERRNO;
	rules.default_errnum = ENOSYS;
	assert_int_equal(ask(0), SECCOMP_RET_ALLOW);
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_X86_64, SYS_read, 0), REFUSED(ENOSYS));
}

static void operators(void **state)
{
	(void)state;
	static const struct {
		Tenon__SeccompOp op;
		uint64_t value, value_two, hit, miss;
	} cases[] = {{TENON__SECCOMP_OP__SECCOMP_EQ, 5, 0, 5, 6},
		     {TENON__SECCOMP_OP__SECCOMP_NE, 5, 0, 6, 5},
		     {TENON__SECCOMP_OP__SECCOMP_LT, 5, 0, 4, 5},
		     {TENON__SECCOMP_OP__SECCOMP_LE, 5, 0, 5, 6},
		     {TENON__SECCOMP_OP__SECCOMP_GE, 5, 0, 5, 4},
		     {TENON__SECCOMP_OP__SECCOMP_GT, UINT64_C(1) << 40, 0, UINT64_MAX, 1},
		     {TENON__SECCOMP_OP__SECCOMP_MASKED_EQ, 0xf0, 0x30, 0x13f, 0x140}};
	first.n_args = 1;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		arg.op = cases[i].op;
		arg.value = cases[i].value;
		arg.value_two = cases[i].value_two;
		assert_int_equal(ask(cases[i].hit), REFUSED(EPERM));
		assert_int_equal(ask(cases[i].miss), SECCOMP_RET_ALLOW);
	}
}

static void an_unknown_name_is_skipped(void **state)
{
	(void)state;
	ProtobufCBinaryData two[] = {{10, (uint8_t *)"not_a_call"}, name};
	first.names = two;
	first.n_names = 2;
	assert_int_equal(ask(0), REFUSED(EPERM));
}

static void another_architecture_dies_unless_it_is_listed(void **state)
{
	(void)state;
	ask(0);
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 4, 0), SECCOMP_RET_KILL_THREAD);
	Tenon__SeccompArch archs[] = {TENON__SECCOMP_ARCH__SECCOMP_X86_64, TENON__SECCOMP_ARCH__SECCOMP_X86,
				      TENON__SECCOMP_ARCH__SECCOMP_X86};
	rules.architectures = archs;
	rules.n_architectures = 3;
	ask(0);
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 4, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 136, 0), REFUSED(EPERM)); /* personality */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_unknown_is_named, setup),
		cmocka_unit_test_setup(arguments_are_checked, setup),
		cmocka_unit_test_setup(names_are_bounded, setup),
		cmocka_unit_test_setup(actions, setup),
		cmocka_unit_test_setup(operators, setup),
		cmocka_unit_test_setup(an_unknown_name_is_skipped, setup),
		cmocka_unit_test_setup(another_architecture_dies_unless_it_is_listed, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
