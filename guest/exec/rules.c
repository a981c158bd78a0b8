#include "guest/exec/rules.h"

#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>

#define FIELD "exec.seccomp.rules."
#define ERRNUM_MAX 4095 /* MAX_ERRNO of the kernel */
#define ARGS_MAX 6

/* ---- checking ---- */

static int check_action(Tenon__SeccompAction action, uint32_t errnum, const char *field, struct fault *f)
{
	if (action > TENON__SECCOMP_ACTION__SECCOMP_LOG)
		return fault_unsupported(f, field, "action %u is not known here", (unsigned)action);
	if (errnum > ERRNUM_MAX)
		return fault_invalid(f, field, "%u is no errno", errnum);
	return 0;
}

static int check_args(const Tenon__SeccompSyscalls *s, struct fault *f)
{
	unsigned seen = 0;
	for (size_t i = 0; i < s->n_args; i++) {
		const Tenon__SeccompArg *a = s->args[i];
		if (a->index >= ARGS_MAX)
			return fault_invalid(f, FIELD "syscalls.args.index", "%u is above 5", a->index);
		if (a->op > TENON__SECCOMP_OP__SECCOMP_MASKED_EQ)
			return fault_unsupported(f, FIELD "syscalls.args.op", "operator %u is not known here",
						 (unsigned)a->op);
		if (seen & 1U << a->index)
			return fault_unsupported(f, FIELD "syscalls.args", "two conditions on argument %u",
						 a->index);
		seen |= 1U << a->index;
	}
	return 0;
}

static int check_names(const Tenon__SeccompSyscalls *s, struct fault *f)
{
	if (s->n_names == 0)
		return fault_invalid(f, FIELD "syscalls.names", "a rule names no call");
	for (size_t i = 0; i < s->n_names; i++) {
		const ProtobufCBinaryData *name = &s->names[i];
		if (name->len == 0 || name->len > RULES_NAME_MAX || memchr(name->data, '\0', name->len))
			return fault_invalid(f, FIELD "syscalls.names",
					     "a name is empty, longer than %d bytes or "
					     "holds a NUL byte",
					     RULES_NAME_MAX);
	}
	return 0;
}

int rules_check(const Tenon__SeccompRules *rules, struct fault *f)
{
	size_t names = 0;
	int r = check_action(rules->default_action, rules->default_errnum, FIELD "default_action", f);
	for (size_t i = 0; i < rules->n_architectures && r == 0; i++)
		if (rules->architectures[i] > TENON__SECCOMP_ARCH__SECCOMP_X32)
			r = fault_unsupported(f, FIELD "architectures", "architecture %u is not known here",
					      (unsigned)rules->architectures[i]);
	for (size_t i = 0; i < rules->n_syscalls && r == 0; i++) {
		const Tenon__SeccompSyscalls *s = rules->syscalls[i];
		names += s->n_names;
		r = check_action(s->action, s->errnum, FIELD "syscalls.action", f);
		if (r == 0 && names > RULES_NAMES_MAX)
			r = fault_exhausted(f, FIELD "syscalls", "more than %d names", RULES_NAMES_MAX);
		if (r == 0)
			r = check_names(s, f);
		if (r == 0)
			r = check_args(s, f);
	}
	return r;
}

/* ---- building ---- */

static uint32_t action_of(Tenon__SeccompAction action, uint32_t errnum)
{
	switch (action) {
	case TENON__SECCOMP_ACTION__SECCOMP_ALLOW:
		return SCMP_ACT_ALLOW;
	case TENON__SECCOMP_ACTION__SECCOMP_KILL_PROCESS:
		return SCMP_ACT_KILL_PROCESS;
	case TENON__SECCOMP_ACTION__SECCOMP_KILL_THREAD:
		return SCMP_ACT_KILL_THREAD;
	case TENON__SECCOMP_ACTION__SECCOMP_TRAP:
		return SCMP_ACT_TRAP;
	case TENON__SECCOMP_ACTION__SECCOMP_LOG:
		return SCMP_ACT_LOG;
	default:
		return SCMP_ACT_ERRNO(errnum ? errnum : EPERM);
	}
}

static int add_architectures(scmp_filter_ctx ctx, const Tenon__SeccompRules *rules, struct err *e)
{
	static const uint32_t tokens[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32};
	for (size_t i = 0; i < rules->n_architectures; i++) {
		int r = seccomp_arch_add(ctx, tokens[rules->architectures[i]]);
		if (r < 0 && r != -EEXIST)
			return err_sys(e, "filter", -r, "architecture %u", (unsigned)rules->architectures[i]);
	}
	return 0;
}

static int add_rule(scmp_filter_ctx ctx, const Tenon__SeccompSyscalls *s, uint32_t action, struct err *e)
{
	static const enum scmp_compare ops[] = {SCMP_CMP_EQ, SCMP_CMP_NE, SCMP_CMP_LT,       SCMP_CMP_LE,
						SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ};
	struct scmp_arg_cmp args[ARGS_MAX];
	for (size_t i = 0; i < s->n_args; i++)
		args[i] = (struct scmp_arg_cmp){s->args[i]->index, ops[s->args[i]->op], s->args[i]->value,
						s->args[i]->value_two};
	for (size_t i = 0; i < s->n_names; i++) {
		char name[RULES_NAME_MAX + 1];
		memcpy(name, s->names[i].data, s->names[i].len);
		name[s->names[i].len] = '\0';
		int nr = seccomp_syscall_resolve_name(name);
		if (nr == __NR_SCMP_ERROR)
			continue;
		int r = seccomp_rule_add_array(ctx, action, nr, (unsigned)s->n_args, args);
		if (r < 0 && r != -EEXIST)
			return err_sys(e, "filter", -r, "rule for %s", name);
	}
	return 0;
}

int rules_build(const Tenon__SeccompRules *rules, int fd, struct err *e)
{
	uint32_t otherwise = action_of(rules->default_action, rules->default_errnum);
	scmp_filter_ctx ctx = seccomp_init(otherwise);
	if (!ctx)
		return err_set(e, "filter", ENOMEM, "no memory for a filter");
	int r = add_architectures(ctx, rules, e);
	for (size_t i = 0; i < rules->n_syscalls && r == 0; i++) {
		uint32_t action = action_of(rules->syscalls[i]->action, rules->syscalls[i]->errnum);
		if (action != otherwise) /* libseccomp refuses a rule that changes nothing */
			r = add_rule(ctx, rules->syscalls[i], action, e);
	}
	if (r == 0 && (r = seccomp_export_bpf(ctx, fd)) < 0)
		err_sys(e, "filter", -r, "cannot be put together");
	seccomp_release(ctx);
	return r;
}
