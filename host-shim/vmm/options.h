/* tenon-vmm's command line: the contract with tenond. */
#pragma once

#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_DISKS_MAX 8

struct disk_option {
	char *path;         /* owned */
	const char *format; /* "raw" or "qcow2" */
	bool readonly;
};

struct options {
	const char *run_dir, *state_dir;
	const char *kernel, *initrd, *append; /* append may be NULL */
	const char *machine, *accel;
	unsigned cpus, memory_mib;
	uint32_t cid;
	struct disk_option disk[OPTIONS_DISKS_MAX];
	unsigned n_disks;
	bool network; /* a network card, and a tenon-net behind it */
	int ready_fd; /* -1: nobody waits */
};

#define OPTIONS_USAGE                                                                                      \
	"tenon-vmm --run-dir DIR --state-dir DIR --kernel FILE --initrd FILE [--append STRING] --cpus N\n" \
	"          --memory MIB [--machine q35|microvm] --accel kvm|tcg --cid N\n"                         \
	"          [--disk PATH,format=raw|qcow2,readonly=on|off]... [--network] [--ready-fd N]\n"

/* Parses argv, whose strings must outlive *o. -EINVAL with a message that names the option. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_finish(struct options *o);
