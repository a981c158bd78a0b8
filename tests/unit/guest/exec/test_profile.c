/* The default profile, asked as the kernel would ask it. */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "guest/exec/profile.h"
#include "tests/unit/guest/exec/bpf.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)
#define REFUSED(errnum) (SECCOMP_RET_ERRNO | (errnum))

static struct bpf program;

static void build(uint64_t caps)
{
	struct err e;
	int fd = memfd_create("profile", 0);
	assert_int_equal(profile_build(caps, fd, &e), 0);
	assert_true(bpf_read(&program, fd));
	close(fd);
}

static uint32_t ask(int nr, uint64_t arg0)
{
	return bpf_run(&program, AUDIT_ARCH_X86_64, nr, arg0);
}

static void what_a_program_needs_is_allowed(void **state)
{
	(void)state;
	static const int calls[] = {SYS_read,         SYS_write,      SYS_openat,        SYS_mmap,
				    SYS_execve,       SYS_exit_group, SYS_clock_gettime, SYS_futex,
				    SYS_epoll_pwait2, SYS_ptrace,     SYS_seccomp,       SYS_getrandom,
				    SYS_rseq,         SYS_statx,      SYS_setuid,        SYS_chown};
	build(0);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		assert_int_equal(ask(calls[i], 0), SECCOMP_RET_ALLOW);
}

static void what_is_known_and_not_allowed_is_eperm(void **state)
{
	(void)state;
	static const int calls[] = {SYS_mount,
				    SYS_umount2,
				    SYS_unshare,
				    SYS_setns,
				    SYS_reboot,
				    SYS_bpf,
				    SYS_init_module,
				    SYS_keyctl,
				    SYS_add_key,
				    SYS_userfaultfd,
				    SYS_kexec_load,
				    SYS_swapon,
				    SYS_acct,
				    SYS_chroot,
				    SYS_pivot_root,
				    SYS_io_uring_setup,
				    SYS_open_by_handle_at,
				    SYS_settimeofday,
				    SYS_iopl,
				    SYS_syslog};
	build(0);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		assert_int_equal(ask(calls[i], 0), REFUSED(EPERM));
}

static void what_is_not_known_is_enosys(void **state)
{
	(void)state;
	build(UINT64_MAX);
	static const int numbers[] = {335, 400, 423, 499, 1023, 0x3fffffff, -1};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		assert_int_equal(ask(numbers[i], 0), REFUSED(ENOSYS));
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 499, 0), REFUSED(ENOSYS));
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 222, 0), REFUSED(ENOSYS));
	assert_int_equal(ask(X32(0), 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(X32(999), 0), REFUSED(ENOSYS));
}

static void capabilities_open_what_is_there_for_them(void **state)
{
	(void)state;
	static const struct {
		uint64_t caps;
		int nr;
	} cases[] = {{CAP(SYS_ADMIN), SYS_mount},
		     {CAP(SYS_ADMIN), SYS_unshare},
		     {CAP(SYS_ADMIN), SYS_setns},
		     {CAP(SYS_ADMIN), SYS_bpf},
		     {CAP(BPF), SYS_bpf},
		     {CAP(PERFMON), SYS_perf_event_open},
		     {CAP(SYS_BOOT), SYS_reboot},
		     {CAP(SYS_CHROOT), SYS_chroot},
		     {CAP(SYS_MODULE), SYS_finit_module},
		     {CAP(SYS_PACCT), SYS_acct},
		     {CAP(SYS_PTRACE), SYS_pidfd_getfd},
		     {CAP(SYS_RAWIO), SYS_iopl},
		     {CAP(SYS_TIME), SYS_settimeofday},
		     {CAP(SYS_TTY_CONFIG), SYS_vhangup},
		     {CAP(SYS_NICE), SYS_mbind},
		     {CAP(SYSLOG), SYS_syslog},
		     {CAP(DAC_READ_SEARCH), SYS_open_by_handle_at}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(profile_caps() & cases[i].caps, cases[i].caps);
		build(0);
		assert_int_equal(ask(cases[i].nr, 0), REFUSED(EPERM));
		build(cases[i].caps);
		assert_int_equal(ask(cases[i].nr, 0), SECCOMP_RET_ALLOW);
	}
	build(UINT64_MAX);
	assert_int_equal(ask(SYS_keyctl, 0), REFUSED(EPERM)); /* for nobody */
}

static void namespaces_take_a_capability(void **state)
{
	(void)state;
	static const uint64_t flags[] = {
		CLONE_NEWNS,  CLONE_NEWUTS, CLONE_NEWIPC,    CLONE_NEWUSER,
		CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_NEWUSER | CLONE_VM};
	build(0);
	assert_int_equal(ask(SYS_clone, CLONE_VM | CLONE_VFORK | 17), SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		assert_int_equal(ask(SYS_clone, flags[i]), REFUSED(EPERM));
	assert_int_equal(ask(SYS_clone3, 0), REFUSED(ENOSYS));
	build(CAP(SYS_ADMIN));
	assert_int_equal(ask(SYS_clone, CLONE_NEWUSER), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_clone3, 0), SECCOMP_RET_ALLOW);
}

static void arguments_count(void **state)
{
	(void)state;
	build(0);
	assert_int_equal(ask(SYS_socket, AF_INET), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(SYS_socket, AF_VSOCK), REFUSED(EPERM));
	static const uint64_t good[] = {0, 8, 0x20000, 0x20008, 0xffffffff}, bad[] = {1, 0x40000, 0x20009};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_int_equal(ask(SYS_personality, good[i]), SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(ask(SYS_personality, bad[i]), REFUSED(EPERM));
}

static void the_other_two_abis(void **state)
{
	(void)state;
	build(0);
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 4, 0), SECCOMP_RET_ALLOW);   /* write */
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 102, 0), SECCOMP_RET_ALLOW); /* socketcall */
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 403, 0), SECCOMP_RET_ALLOW); /* clock_gettime64 */
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 21, 0), REFUSED(EPERM));     /* mount */
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 120, CLONE_NEWNS), REFUSED(EPERM)); /* clone */
	assert_int_equal(bpf_run(&program, AUDIT_ARCH_I386, 435, 0), REFUSED(ENOSYS));          /* clone3 */
	assert_int_equal(ask(X32(1), 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(X32(165), 0), REFUSED(EPERM)); /* mount */
	assert_int_not_equal(bpf_run(&program, AUDIT_ARCH_AARCH64, 64, 0), SECCOMP_RET_ALLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_program_needs_is_allowed),
		cmocka_unit_test(what_is_known_and_not_allowed_is_eperm),
		cmocka_unit_test(what_is_not_known_is_enosys),
		cmocka_unit_test(capabilities_open_what_is_there_for_them),
		cmocka_unit_test(namespaces_take_a_capability),
		cmocka_unit_test(arguments_count),
		cmocka_unit_test(the_other_two_abis),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
