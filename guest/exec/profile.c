#include "guest/exec/profile.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define X32_BIT 0x40000000 /* __X32_SYSCALL_BIT, asm/unistd.h */
#define CAP(name) (UINT64_C(1) << CAP_##name)

/* clang-format off */
/* Names of system calls with spaces between, the variants of 32-bit x86 among them. A name that is not known
 * to libseccomp is skipped. caps: any one of them opens the group; 0: it is always open. */
static const struct group {
	uint64_t caps;
	const char *names;
} groups[] = {
	{0,
	 "open openat openat2 creat close close_range read readv pread64 preadv preadv2 write "
	 "writev pwrite64 pwritev pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 ioctl flock "
	 "fsync fdatasync sync syncfs sync_file_range fallocate truncate truncate64 ftruncate "
	 "ftruncate64 fadvise64 fadvise64_64 readahead copy_file_range sendfile sendfile64 "
	 "splice tee vmsplice name_to_handle_at"},
	{0,
	 "stat stat64 fstat fstat64 lstat lstat64 newfstatat fstatat64 statx statfs statfs64 "
	 "fstatfs fstatfs64 access faccessat faccessat2 readlink readlinkat getdents getdents64 "
	 "getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink "
	 "symlinkat unlink unlinkat mknod mknodat chmod fchmod fchmodat fchmodat2 chown chown32 "
	 "fchown fchown32 lchown lchown32 fchownat umask utime utimes futimesat utimensat "
	 "utimensat_time64 getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr "
	 "llistxattr flistxattr removexattr lremovexattr fremovexattr"},
	{0,
	 "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark "
	 "landlock_create_ruleset landlock_add_rule landlock_restrict_self"},
	{0,
	 "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create "
	 "epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait "
	 "epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime "
	 "timerfd_settime64 timerfd_gettime timerfd_gettime64 pipe pipe2"},
	{0,
	 "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents "
	 "io_pgetevents_time64"},
	{0,
	 "socketpair socketcall bind listen accept accept4 connect shutdown getsockname "
	 "getpeername getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg "
	 "recvmmsg recvmmsg_time64"},
	{0,
	 "mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock "
	 "munlockall brk remap_file_pages memfd_create memfd_secret membarrier cachestat "
	 "map_shadow_stack pkey_alloc pkey_free pkey_mprotect process_mrelease"},
	{0,
	 "fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill "
	 "pause restart_syscall pidfd_open pidfd_send_signal prctl arch_prctl modify_ldt seccomp "
	 "rseq set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area "
	 "futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv ptrace "
	 "process_vm_readv process_vm_writev"},
	{0,
	 "rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait "
	 "rt_sigtimedwait_time64 rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn sigaltstack "
	 "sigprocmask sigreturn"},
	{0,
	 "getpid getppid gettid getpgid getpgrp setpgid getsid setsid getuid getuid32 geteuid "
	 "geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid "
	 "getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 "
	 "setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 "
	 "setfsgid setfsgid32 setgroups setgroups32 capget capset"},
	{0,
	 "getrlimit ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get "
	 "ioprio_set times sched_yield sched_getparam sched_setparam sched_getscheduler "
	 "sched_setscheduler sched_getattr sched_setattr sched_getaffinity sched_setaffinity "
	 "sched_get_priority_min sched_get_priority_max sched_rr_get_interval "
	 "sched_rr_get_interval_time64 getcpu sysinfo uname getrandom"},
	{0,
	 "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 "
	 "clock_nanosleep clock_nanosleep_time64 nanosleep adjtimex clock_adjtime "
	 "clock_adjtime64 alarm getitimer setitimer timer_create timer_delete timer_getoverrun "
	 "timer_gettime timer_gettime64 timer_settime timer_settime64"},
	{0,
	 "ipc msgget msgsnd msgrcv msgctl semget semop semctl semtimedop semtimedop_time64 "
	 "shmget shmat shmdt shmctl mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend "
	 "mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64"},
	{CAP(DAC_READ_SEARCH), "open_by_handle_at"},
	{CAP(SYS_ADMIN),
	 "mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick "
	 "unshare setns clone clone3 sethostname setdomainname quotactl quotactl_fd "
	 "fanotify_init lookup_dcookie"},
	{CAP(SYS_ADMIN) | CAP(BPF), "bpf"},
	{CAP(SYS_ADMIN) | CAP(PERFMON), "perf_event_open"},
	{CAP(SYS_ADMIN) | CAP(SYSLOG), "syslog"},
	{CAP(SYS_BOOT), "reboot"},
	{CAP(SYS_CHROOT), "chroot"},
	{CAP(SYS_MODULE), "init_module finit_module delete_module"},
	{CAP(SYS_NICE), "get_mempolicy set_mempolicy set_mempolicy_home_node mbind"},
	{CAP(SYS_PACCT), "acct"},
	{CAP(SYS_PTRACE), "kcmp pidfd_getfd process_madvise"},
	{CAP(SYS_RAWIO), "iopl ioperm"},
	{CAP(SYS_TIME), "settimeofday stime clock_settime clock_settime64"},
	{CAP(SYS_TTY_CONFIG), "vhangup"},
};
/* clang-format on */
#define GROUPS (sizeof groups / sizeof *groups)

/* Making a namespace takes a capability. clone3 hides its flags behind a pointer, so without it there is
 * none: libc then falls back on clone. */
#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
	 CLONE_NEWCGROUP)

/* personality(2): to ask, Linux, Linux in 32 bits (uname -m), either with the old uname. */
static const uint32_t personalities[] = {0xffffffff, 0, 0x8, 0x20000, 0x20008};

uint64_t profile_caps(void)
{
	uint64_t caps = 0;
	for (size_t i = 0; i < GROUPS; i++)
		caps |= groups[i].caps;
	return caps;
}

/* ---- the numbers that are known ---- */

/* libseccomp has one answer for all that has no rule, EPERM here; so a stub before its program answers ENOSYS
 * to the numbers that it has no name for. */
#define NUMBERS 1024 /* looked at in each table: the kernel is at 470 */
#define STUB_MAX 200 /* instructions: within the reach of a jump */
#define BODY 0xfe    /* jumps whose distance is filled in later: to libseccomp's program */
#define UNKNOWN 0xff /* to this architecture's ENOSYS */

struct stub {
	struct sock_filter code[STUB_MAX];
	unsigned n;
};

static void put(struct stub *s, uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	if (s->n < STUB_MAX)
		s->code[s->n++] = (struct sock_filter){code, yes, no, k};
}

static bool is_known(uint32_t arch, int nr)
{
	char *name = seccomp_syscall_resolve_num_arch(arch, nr);
	free(name);
	return name != NULL;
}

/* The ranges of known numbers in rising order; one above them all falls through. */
static void put_numbers(struct stub *s, uint32_t arch, int base)
{
	for (int nr = 0, from = 0; nr < NUMBERS; nr++) {
		if (is_known(arch, base + nr))
			continue;
		if (nr > from) {
			put(s, BPF_JMP | BPF_JGT | BPF_K, 1, 0, (uint32_t)(base + nr - 1));
			put(s, BPF_JMP | BPF_JGE | BPF_K, BODY, UNKNOWN, (uint32_t)(base + from));
		}
		from = nr + 1;
	}
}

/* audit: the architecture in the kernel's terms, which takes x32 for x86-64 with a bit in the number. */
static void put_arch(struct stub *s, uint32_t audit, uint32_t arch)
{
	unsigned start = s->n;
	put(s, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
	put(s, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, audit);
	put(s, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
	put_numbers(s, arch, 0);
	if (arch == SCMP_ARCH_X86_64)
		put_numbers(s, SCMP_ARCH_X32, X32_BIT);
	put(s, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS);
	s->code[start + 1].jf = (uint8_t)(s->n - start - 2);
	for (unsigned i = start; i < s->n; i++)
		if (s->code[i].jf == UNKNOWN)
			s->code[i].jf = (uint8_t)(s->n - i - 2);
}

static int write_stub(int fd, struct err *e)
{
	struct stub s = {.n = 0};
	put_arch(&s, AUDIT_ARCH_X86_64, SCMP_ARCH_X86_64);
	put_arch(&s, AUDIT_ARCH_I386, SCMP_ARCH_X86);
	for (unsigned i = 0; i < s.n; i++)
		if (s.code[i].jt == BODY)
			s.code[i].jt = (uint8_t)(s.n - i - 1);
	size_t size = s.n * sizeof *s.code;
	if (s.n == STUB_MAX)
		return err_set(e, "filter", E2BIG, "the numbers of system calls lie too scattered");
	return write(fd, s.code, size) == (ssize_t)size ? 0
							: err_sys(e, "filter", errno, "cannot be written");
}

/* ---- the rules ---- */

static int allow(scmp_filter_ctx ctx, const char *name, size_t n, unsigned n_args, struct scmp_arg_cmp arg)
{
	char text[64];
	snprintf(text, sizeof text, "%.*s", (int)n, name);
	int nr = seccomp_syscall_resolve_name(text);
	return nr == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, n_args, arg);
}

static int allow_names(scmp_filter_ctx ctx, const char *names)
{
	int r = 0;
	while (*names && r == 0) {
		size_t n = strcspn(names, " ");
		r = allow(ctx, names, n, 0, (struct scmp_arg_cmp){0});
		names += n;
		names += strspn(names, " ");
	}
	return r;
}

static int add_conditional(scmp_filter_ctx ctx, uint64_t caps)
{
	int r = allow(ctx, "socket", 6, 1, SCMP_A0(SCMP_CMP_NE, AF_VSOCK, 0));
	for (size_t i = 0; i < sizeof personalities / sizeof *personalities && r == 0; i++)
		r = allow(ctx, "personality", 11, 1, SCMP_A0(SCMP_CMP_EQ, personalities[i], 0));
	if (caps & CAP(SYS_ADMIN))
		return r;
	if (r == 0)
		r = allow(ctx, "clone", 5, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, NAMESPACES, 0));
	return r == 0 ? seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) : r;
}

static int add_rules(scmp_filter_ctx ctx, uint64_t caps)
{
	int r = seccomp_arch_add(ctx, SCMP_ARCH_X86);
	if (r == 0)
		r = seccomp_arch_add(ctx, SCMP_ARCH_X32);
	for (size_t i = 0; i < GROUPS && r == 0; i++)
		if (groups[i].caps == 0 || groups[i].caps & caps)
			r = allow_names(ctx, groups[i].names);
	return r == 0 ? add_conditional(ctx, caps) : r;
}

int profile_build(uint64_t caps, int fd, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!ctx)
		return err_set(e, "filter", ENOMEM, "no memory for a filter");
	/* A tree over the numbers: when the kernel takes the program it walks it once for each number there
	 * is. Halves the time that an execution pays for its filter. */
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = add_rules(ctx, caps);
	if (r < 0)
		err_sys(e, "filter", -r, "the default profile");
	else if ((r = write_stub(fd, e)) == 0 && (r = seccomp_export_bpf(ctx, fd)) < 0)
		err_sys(e, "filter", -r, "cannot be put together");
	seccomp_release(ctx);
	return r;
}
