#include "guest/metrics/diskstats.h"

#include <string.h>

#include "guest/scan.h"

#define SECTOR 512 /* in these counters, whatever the disk has */

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool starts_with(const ProtobufCBinaryData *name, const void *start, size_t n)
{
	return name->len > n && memcmp(name->data, start, n) == 0;
}

/* Named by the kernel's own rule, and listed right behind its disk: vda1, nvme0n1p1. */
static bool is_partition(const ProtobufCBinaryData *disk, const ProtobufCBinaryData *name)
{
	size_t at = disk->len;
	if (at == 0 || !starts_with(name, disk->data, at))
		return false;
	if (is_digit(disk->data[at - 1]) && name->data[at++] != 'p')
		return false;
	for (size_t i = at; i < name->len; i++)
		if (!is_digit(name->data[i]))
			return false;
	return at < name->len;
}

static void take_counters(const char *p, Tenon__DiskUse *d)
{
	d->reads = scan_number(&p);
	scan_skip(&p, 1); /* merged */
	d->read_bytes = scan_times(scan_number(&p), SECTOR);
	scan_skip(&p, 1); /* ms */
	d->writes = scan_number(&p);
	scan_skip(&p, 1);
	d->written_bytes = scan_times(scan_number(&p), SECTOR);
}

bool diskstats_next(const char **text, ProtobufCBinaryData *disk, Tenon__DiskUse *d)
{
	while (**text) {
		const char *p = *text, *word;
		scan_skip(&p, 2); /* major, minor */
		size_t n = scan_word(&p, &word);
		ProtobufCBinaryData name = {n, (uint8_t *)word};
		scan_next_line(text);
		if (n == 0 || starts_with(&name, "loop", 4) || starts_with(&name, "ram", 3) ||
		    is_partition(disk, &name))
			continue;
		*disk = d->name = name;
		take_counters(p, d);
		return true;
	}
	return false;
}
