#include "options.h"

#include "proto/cleanup.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum {
	RUN_DIR = 1,
	STATE_DIR,
	KERNEL,
	INITRD,
	APPEND,
	CPUS,
	MEMORY,
	MACHINE,
	ACCEL,
	CID,
	DISK,
	NETWORK,
	READY_FD
};

static const struct option table[] = {
	{"run-dir", required_argument, NULL, RUN_DIR},   {"state-dir", required_argument, NULL, STATE_DIR},
	{"kernel", required_argument, NULL, KERNEL},     {"initrd", required_argument, NULL, INITRD},
	{"append", required_argument, NULL, APPEND},     {"cpus", required_argument, NULL, CPUS},
	{"memory", required_argument, NULL, MEMORY},     {"machine", required_argument, NULL, MACHINE},
	{"accel", required_argument, NULL, ACCEL},       {"cid", required_argument, NULL, CID},
	{"disk", required_argument, NULL, DISK},         {"network", no_argument, NULL, NETWORK},
	{"ready-fd", required_argument, NULL, READY_FD}, {0},
};

static int parse_number(const char *s, const char *name, unsigned long min, unsigned long max,
			unsigned long *out, struct err *e)
{
	char *end;
	errno = 0;
	unsigned long v = *s >= '0' && *s <= '9' ? strtoul(s, &end, 10) : 0;
	if (!(*s >= '0' && *s <= '9') || *end || errno || v < min || v > max)
		return err_set(e, "options", EINVAL, "--%s %s: a number from %lu to %lu is needed", name, s,
			       min, max);
	*out = v;
	return 0;
}

/* The suffix is of fixed form, so that the path may hold commas. */
static int parse_disk(struct options *o, const char *arg, struct err *e)
{
	static const struct {
		const char *suffix, *format;
		bool readonly;
	} forms[] = {
		{",format=raw,readonly=on", "raw", true},
		{",format=raw,readonly=off", "raw", false},
		{",format=qcow2,readonly=on", "qcow2", true},
		{",format=qcow2,readonly=off", "qcow2", false},
	};
	if (o->n_disks == OPTIONS_DISKS_MAX)
		return err_set(e, "options", EINVAL, "more than %d disks", OPTIONS_DISKS_MAX);
	size_t len = strlen(arg);
	for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++) {
		size_t suffix = strlen(forms[i].suffix);
		if (len <= suffix || strcmp(arg + len - suffix, forms[i].suffix) != 0)
			continue;
		char *path = strndup(arg, len - suffix);
		if (!path)
			return err_sys(e, "options", ENOMEM, "--disk");
		o->disk[o->n_disks++] = (struct disk_option){path, forms[i].format, forms[i].readonly};
		return 0;
	}
	return err_set(e, "options", EINVAL, "--disk %s: not PATH,format=raw|qcow2,readonly=on|off", arg);
}

static int parse_one(struct options *o, int opt, const char *arg, struct err *e)
{
	unsigned long n = 0;
	int r = 0;
	switch (opt) {
	case RUN_DIR:
		o->run_dir = arg;
		return 0;
	case STATE_DIR:
		o->state_dir = arg;
		return 0;
	case KERNEL:
		o->kernel = arg;
		return 0;
	case INITRD:
		o->initrd = arg;
		return 0;
	case APPEND:
		o->append = arg;
		return 0;
	case MACHINE:
		o->machine = arg;
		return strcmp(arg, "q35") && strcmp(arg, "microvm")
			       ? err_set(e, "options", EINVAL, "--machine %s: q35 or microvm", arg)
			       : 0;
	case ACCEL:
		o->accel = arg;
		return strcmp(arg, "kvm") && strcmp(arg, "tcg")
			       ? err_set(e, "options", EINVAL, "--accel %s: kvm or tcg", arg)
			       : 0;
	case CPUS:
		r = parse_number(arg, "cpus", 1, 255, &n, e);
		o->cpus = (unsigned)n;
		return r;
	case MEMORY:
		r = parse_number(arg, "memory", 16, 16 * 1024 * 1024, &n, e);
		o->memory_mib = (unsigned)n;
		return r;
	case CID:
		/* 0 to 2 are the hypervisor, local and the host; the last is VMADDR_CID_ANY. */
		r = parse_number(arg, "cid", 3, UINT32_MAX - 1, &n, e);
		o->cid = (uint32_t)n;
		return r;
	case READY_FD:
		r = parse_number(arg, "ready-fd", 3, 1024 * 1024, &n, e);
		o->ready_fd = r < 0 ? -1 : (int)n;
		return r;
	case DISK:
		return parse_disk(o, arg, e);
	case NETWORK:
		o->network = true;
		return 0;
	default: /* getopt's '?' */
		return err_set(e, "options", EINVAL, "%s: unknown, or without its value", arg);
	}
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	*o = (struct options){.machine = "q35", .ready_fd = -1};
	int opt, failed = 0;
	opterr = 0;
	optind = 1;
	/* On through errors, the first of which is kept: --ready-fd may come last and is to hear of it. */
	while ((opt = getopt_long(argc, argv, "", table, NULL)) != -1) {
		int r = parse_one(o, opt, optarg ? optarg : argv[optind - 1], failed ? NULL : e);
		failed = failed ? failed : r;
	}
	if (failed)
		return failed;
	if (optind < argc)
		return err_set(e, "options", EINVAL, "unexpected argument %s", argv[optind]);

	const struct {
		bool given;
		const char *name;
	} needed[] = {
		{o->run_dir, "run-dir"}, {o->state_dir, "state-dir"},
		{o->kernel, "kernel"},   {o->initrd, "initrd"},
		{o->cpus, "cpus"},       {o->memory_mib, "memory"},
		{o->accel, "accel"},     {o->cid, "cid"},
	};
	for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
		if (!needed[i].given)
			return err_set(e, "options", EINVAL, "--%s is missing", needed[i].name);
	return 0;
}

void options_finish(struct options *o)
{
	for (unsigned i = 0; i < o->n_disks; i++)
		free(o->disk[i].path);
	o->n_disks = 0;
}
