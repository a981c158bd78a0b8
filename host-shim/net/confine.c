#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stack.h"

#define NOBODY 65534
#define DATA_MAX (768UL * 1024 * 1024)

static const char *step = "confine";

/* To n, or to less if less is all that we may have. */
static int limit(int resource, rlim_t n, struct err *e)
{
	struct rlimit l;
	if (getrlimit(resource, &l) < 0)
		return err_sys(e, step, errno, "getrlimit");
	l.rlim_max = l.rlim_max < n ? l.rlim_max : n;
	l.rlim_cur = l.rlim_max;
	return setrlimit(resource, &l) < 0 ? err_sys(e, step, errno, "setrlimit") : 0;
}

/* Of root only that it may answer for nobody's files. */
static int become_nobody(struct err *e)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return err_sys(e, step, errno, "becoming nobody");
	return 0;
}

int confine_process(struct err *e)
{
	pid_t parent = getppid();
	int r = become_nobody(e);
	if (r < 0)
		return r;
	/* After the change of user, which clears the first. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, step, errno, "prctl");
	if (getppid() != parent)
		return err_set(e, step, ESRCH, "tenon-vmm is gone");
	if (chdir("/") < 0)
		return err_sys(e, step, errno, "chdir");
	if ((r = limit(RLIMIT_CORE, 0, e)) < 0 || (r = limit(RLIMIT_FSIZE, 0, e)) < 0 ||
	    (r = limit(RLIMIT_NOFILE, STACK_SOCKETS_MAX + STACK_FDS_RESERVED, e)) < 0)
		return r;
	return limit(RLIMIT_DATA, DATA_MAX, e);
}

static const int allowed[] = {
	/* sockets that are there; connect and bind choose no family */
	SCMP_SYS(bind), SCMP_SYS(connect), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt), SCMP_SYS(shutdown), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg), SCMP_SYS(ioctl), SCMP_SYS(fcntl),
	/* descriptors */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(stat),
	SCMP_SYS(newfstatat), SCMP_SYS(poll), SCMP_SYS(ppoll),
	/* memory and time */
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex),
	SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom),
	SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
	/* the end; abort(3) among it */
	SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(tgkill)};

static int add_rules(scmp_filter_ctx ctx)
{
	int r = 0;
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				     SCMP_A0(SCMP_CMP_EQ, AF_INET, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				     SCMP_A0(SCMP_CMP_EQ, AF_INET6, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT, O_RDONLY));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return r < 0 ? r : seccomp_load(ctx);
}

int confine_calls(struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? add_rules(ctx) : -ENOMEM;
	seccomp_release(ctx);
	return r < 0 ? err_sys(e, step, -r, "seccomp") : 0;
}
