/* Linux capabilities in JSON, as docker names them: "NET_ADMIN", "CAP_NET_ADMIN" or "ALL". */
#include <string.h>
#include <strings.h>

#include "internal.h"

/* In the order of their numbers, capabilities(7). */
static const char *const names[] = {
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
};

/* The bit of a name, all bits for ALL, 0 if nobody knows it. */
static uint64_t bit_of(const char *name)
{
	if (strcasecmp(name, "ALL") == 0)
		return UINT64_MAX;
	if (strncasecmp(name, "CAP_", 4) == 0)
		name += 4;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcasecmp(name, names[i]) == 0)
			return UINT64_C(1) << i;
	return 0;
}

static uint64_t read_list(struct fields *f, const char *name)
{
	json_t *array = fields_array(f, name), *item;
	uint64_t set = 0;
	size_t i;
	json_array_foreach (array, i, item) {
		const char *text = json_string_value(item);
		uint64_t bit = text ? bit_of(text) : 0;
		if (!bit)
			fields_fault(f, name, "has an item %zu that is no Linux capability", i);
		set |= bit;
	}
	return set;
}

void rest_read_capabilities(struct fields *f, const char *prefix, uint64_t *add, uint64_t *drop)
{
	json_t *object = fields_object(f, "capabilities");
	struct fields c;
	*add = *drop = 0;
	if (!object)
		return;
	fields_open(&c, object, prefix);
	*add = read_list(&c, "add");
	*drop = read_list(&c, "drop");
	fields_close(f, &c);
}
