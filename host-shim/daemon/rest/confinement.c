/* What an exec body says of the process's rights and limits. Nothing is ignored: what is not known here is a
 * fault, and what the agent cannot do it refuses by its name. */
#include <string.h>
#include <sys/resource.h>

#include "internal.h"
#include "limits.h"

#define CPU_PERIOD_US 100000 /* the kernel's default: cpus × this is the quota */

static const char *const presets[] = {
	[TENON__PRESET__PRESET_DEVELOPMENT] = "development",
	[TENON__PRESET__PRESET_STANDARD] = "standard",
	[TENON__PRESET__PRESET_MAXIMUM] = "maximum",
};

static const struct {
	const char *name;
	uint32_t resource;
} rlimit_names[EXEC_RLIMITS_MAX] = {
	{"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
	{"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
	{"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
	{"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
	{"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
	{"stack", RLIMIT_STACK},
};

static Tenon__Preset read_preset(struct fields *f)
{
	const char *name = fields_string(f, "security", 0, 64);
	for (unsigned i = 0; name && i < sizeof presets / sizeof *presets; i++)
		if (presets[i] && strcmp(presets[i], name) == 0)
			return (Tenon__Preset)i;
	if (name)
		fields_fault(f, "security", "must be \"development\", \"standard\" or \"maximum\"");
	return TENON__PRESET__PRESET_NONE;
}

json_t *rest_presets(void)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < sizeof presets / sizeof *presets; i++)
		if (presets[i])
			json_array_append_new(list, json_string(presets[i]));
	return list;
}

const char *rest_read_preset(struct fields *f)
{
	return presets[read_preset(f)];
}

static uint8_t *read_seccomp(struct fields *f, struct exec_spec *spec)
{
	json_t *object = json_object_get(f->object, "seccomp");
	if (json_is_object(object)) {
		uint8_t *rules = rest_read_seccomp_rules(f, fields_any(f, "seccomp"), &spec->rules_len);
		spec->rules = rules;
		spec->seccomp = SECCOMP_RULES;
		return rules;
	}
	fields_choice(f, "seccomp", "default", "unconfined");
	const char *name = json_string_value(json_object_get(f->object, "seccomp"));
	if (name)
		spec->seccomp = strcmp(name, "default") == 0 ? SECCOMP_ON : SECCOMP_OFF;
	return NULL;
}

static void read_resources(struct fields *f, struct exec_spec *spec)
{
	json_t *object = fields_object(f, "resources");
	struct fields r;
	if (!object)
		return;
	fields_open(&r, object, "resources.");
	spec->memory_max = (uint64_t)fields_int(&r, "memory_bytes", 1, INT64_MAX, 0);
	spec->memory_high = (uint64_t)fields_int(&r, "memory_high_bytes", 1, INT64_MAX, 0);
	spec->pids_max = (uint32_t)fields_int(&r, "pids", 1, INT32_MAX, 0);
	spec->cpu_quota_us = (uint32_t)(CPU_PERIOD_US * fields_number(&r, "cpus", 0.01, LIMIT_CPUS, 0) + 0.5);
	spec->cpu_weight = (uint32_t)fields_int(&r, "cpu_weight", 1, 10000, 0);
	fields_close(f, &r);
}

/* A number, or "unlimited". */
static uint64_t read_limit(struct fields *f, const char *name, uint64_t fallback)
{
	const char *text = json_string_value(json_object_get(f->object, name));
	if (text && strcmp(text, "unlimited") == 0) {
		fields_any(f, name);
		return UINT64_MAX;
	}
	if (!fields_has(f, name))
		return fallback;
	return (uint64_t)fields_int(f, name, 0, INT64_MAX, 0);
}

/* {"nofile": 1024} or {"nofile": {"soft": 1024, "hard": "unlimited"}} */
static void read_rlimit(struct fields *all, const char *name, uint32_t resource, struct exec_spec *spec)
{
	struct exec_rlimit *limit = &spec->rlimits[spec->n_rlimits++];
	limit->resource = resource;
	if (!json_is_object(json_object_get(all->object, name))) {
		limit->soft = limit->hard = read_limit(all, name, 0);
		return;
	}
	char prefix[64];
	struct fields one;
	snprintf(prefix, sizeof prefix, "rlimits.%s.", name);
	fields_open(&one, fields_object(all, name), prefix);
	if (!fields_has(&one, "soft"))
		fields_fault(&one, "soft", "is missing");
	limit->soft = read_limit(&one, "soft", 0);
	limit->hard = read_limit(&one, "hard", limit->soft);
	if (limit->hard < limit->soft)
		fields_fault(&one, "hard", "must not be below the soft limit");
	fields_close(all, &one);
}

static void read_rlimits(struct fields *f, struct exec_spec *spec)
{
	json_t *object = fields_object(f, "rlimits");
	struct fields all;
	if (!object)
		return;
	fields_open(&all, object, "rlimits.");
	for (unsigned i = 0; i < EXEC_RLIMITS_MAX; i++)
		if (fields_has(&all, rlimit_names[i].name))
			read_rlimit(&all, rlimit_names[i].name, rlimit_names[i].resource, spec);
	fields_close(f, &all);
}

uint8_t *rest_read_confinement(struct fields *f, struct exec_spec *spec)
{
	spec->user = fields_string(f, "user", 1, 255);
	spec->preset = read_preset(f);
	rest_read_capabilities(f, "capabilities.", &spec->cap_add, &spec->cap_drop);
	uint8_t *rules = read_seccomp(f, spec);
	spec->no_new_privs = fields_bool(f, "no_new_privileges", false);
	read_resources(f, spec);
	read_rlimits(f, spec);
	return rules;
}
