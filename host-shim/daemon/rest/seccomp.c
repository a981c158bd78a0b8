/* linux.seccomp of the OCI runtime specification, in its JSON, as the agent's message. What the agent cannot
 * do is refused by its name: a filter with a part left out would be another filter. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct word {
	const char *name;
	int value;
};

static const struct word actions[] = {
	{"SCMP_ACT_ALLOW", TENON__SECCOMP_ACTION__SECCOMP_ALLOW},
	{"SCMP_ACT_ERRNO", TENON__SECCOMP_ACTION__SECCOMP_ERRNO},
	{"SCMP_ACT_KILL_PROCESS", TENON__SECCOMP_ACTION__SECCOMP_KILL_PROCESS},
	{"SCMP_ACT_KILL_THREAD", TENON__SECCOMP_ACTION__SECCOMP_KILL_THREAD},
	{"SCMP_ACT_KILL", TENON__SECCOMP_ACTION__SECCOMP_KILL_THREAD}, /* its older name */
	{"SCMP_ACT_TRAP", TENON__SECCOMP_ACTION__SECCOMP_TRAP},
	{"SCMP_ACT_LOG", TENON__SECCOMP_ACTION__SECCOMP_LOG},
	{NULL, 0},
};
static const struct word architectures[] = {
	{"SCMP_ARCH_X86_64", TENON__SECCOMP_ARCH__SECCOMP_X86_64},
	{"SCMP_ARCH_X86", TENON__SECCOMP_ARCH__SECCOMP_X86},
	{"SCMP_ARCH_X32", TENON__SECCOMP_ARCH__SECCOMP_X32},
	{NULL, 0},
};
static const struct word operators[] = {
	{"SCMP_CMP_EQ", TENON__SECCOMP_OP__SECCOMP_EQ},
	{"SCMP_CMP_NE", TENON__SECCOMP_OP__SECCOMP_NE},
	{"SCMP_CMP_LT", TENON__SECCOMP_OP__SECCOMP_LT},
	{"SCMP_CMP_LE", TENON__SECCOMP_OP__SECCOMP_LE},
	{"SCMP_CMP_GE", TENON__SECCOMP_OP__SECCOMP_GE},
	{"SCMP_CMP_GT", TENON__SECCOMP_OP__SECCOMP_GT},
	{"SCMP_CMP_MASKED_EQ", TENON__SECCOMP_OP__SECCOMP_MASKED_EQ},
	{NULL, 0},
};

static int find_word(const struct word *words, const char *text)
{
	for (; text && words->name; words++)
		if (strcmp(words->name, text) == 0)
			return words->value;
	return -1;
}

/* Required. */
static int read_word(struct fields *f, const char *name, const struct word *words)
{
	const char *text = fields_string(f, name, 1, 64);
	int value = find_word(words, text);
	if (!text)
		fields_fault(f, name, "is missing");
	else if (value < 0)
		fields_refuse(f, name, "is none that the agent knows");
	return value < 0 ? 0 : value;
}

static void read_architectures(struct fields *f, Tenon__SeccompRules *m)
{
	json_t *array = fields_array(f, "architectures"), *item;
	size_t i;
	m->architectures = calloc(json_array_size(array) + 1, sizeof *m->architectures);
	if (!m->architectures)
		abort();
	json_array_foreach (array, i, item) {
		int value = find_word(architectures, json_string_value(item));
		if (value < 0)
			fields_refuse(f, "architectures", "has one that the agent does not know");
		m->architectures[m->n_architectures++] = (Tenon__SeccompArch)(value < 0 ? 0 : value);
	}
}

static void read_arg(struct fields *all, json_t *object, Tenon__SeccompSyscalls *m)
{
	Tenon__SeccompArg *arg = malloc(sizeof *arg);
	struct fields f;
	if (!arg)
		abort();
	tenon__seccomp_arg__init(arg);
	m->args[m->n_args++] = arg;
	fields_open(&f, object, "seccomp.syscalls.args.");
	arg->index = (uint32_t)fields_int(&f, "index", 0, 5, 0);
	arg->value = (uint64_t)fields_int(&f, "value", 0, INT64_MAX, 0);
	arg->value_two = (uint64_t)fields_int(&f, "valueTwo", 0, INT64_MAX, 0);
	arg->op = (Tenon__SeccompOp)read_word(&f, "op", operators);
	fields_close(all, &f);
}

static void read_args(struct fields *f, Tenon__SeccompSyscalls *m)
{
	json_t *array = fields_array(f, "args"), *item;
	size_t i;
	m->args = calloc(json_array_size(array) + 1, sizeof *m->args);
	if (!m->args)
		abort();
	json_array_foreach (array, i, item) {
		if (json_is_object(item))
			read_arg(f, item, m);
		else
			fields_fault(f, "args", "must be an array of objects");
	}
}

static void read_names(struct fields *f, Tenon__SeccompSyscalls *m)
{
	json_t *array = fields_array(f, "names"), *item;
	size_t i;
	m->names = calloc(json_array_size(array) + 1, sizeof *m->names);
	if (!m->names)
		abort();
	if (!json_array_size(array))
		fields_fault(f, "names", "must have the name of a call");
	json_array_foreach (array, i, item) {
		const char *name = json_string_value(item);
		uint8_t *copy = name ? (uint8_t *)strdup(name) : NULL;
		if (!copy) {
			fields_fault(f, "names", "must be an array of strings");
			break;
		}
		m->names[m->n_names++] = (ProtobufCBinaryData){strlen(name), copy};
	}
}

static void read_rule(struct fields *all, json_t *object, Tenon__SeccompRules *m)
{
	Tenon__SeccompSyscalls *rule = malloc(sizeof *rule);
	struct fields f;
	if (!rule)
		abort();
	tenon__seccomp_syscalls__init(rule);
	m->syscalls[m->n_syscalls++] = rule;
	fields_open(&f, object, "seccomp.syscalls.");
	rule->action = (Tenon__SeccompAction)read_word(&f, "action", actions);
	rule->errnum = (uint32_t)fields_int(&f, "errnoRet", 0, 4095, 0);
	read_names(&f, rule);
	read_args(&f, rule);
	fields_close(all, &f);
}

static void read_rules(struct fields *f, Tenon__SeccompRules *m)
{
	json_t *array = fields_array(f, "syscalls"), *item;
	size_t i;
	m->syscalls = calloc(json_array_size(array) + 1, sizeof *m->syscalls);
	if (!m->syscalls)
		abort();
	json_array_foreach (array, i, item) {
		if (json_is_object(item))
			read_rule(f, item, m);
		else
			fields_fault(f, "syscalls", "must be an array of objects");
	}
}

static const char *const not_done[] = {"flags", "listenerPath", "listenerMetadata"};

uint8_t *rest_read_seccomp_rules(struct fields *all, json_t *object, size_t *len)
{
	Tenon__SeccompRules *m = malloc(sizeof *m);
	struct fields f;
	if (!m)
		abort();
	tenon__seccomp_rules__init(m);
	fields_open(&f, object, "seccomp.");
	m->default_action = (Tenon__SeccompAction)read_word(&f, "defaultAction", actions);
	m->default_errnum = (uint32_t)fields_int(&f, "defaultErrnoRet", 0, 4095, 0);
	read_architectures(&f, m);
	read_rules(&f, m);
	for (size_t i = 0; i < sizeof not_done / sizeof *not_done; i++) {
		json_t *v = fields_any(&f, not_done[i]);
		if (v && !(json_is_array(v) && json_array_size(v) == 0))
			fields_refuse(&f, not_done[i], "is not supported");
	}
	fields_close(all, &f);
	*len = tenon__seccomp_rules__get_packed_size(m);
	uint8_t *packed = all->problem[0] ? NULL : malloc(*len + 1);
	if (packed)
		tenon__seccomp_rules__pack(m, packed);
	tenon__seccomp_rules__free_unpacked(m, NULL);
	return packed;
}
