#include "guest/metrics/usage.h"

#include "guest/scan.h"

void usage_parse_cpu(const char *text, Tenon__ExecUse *u)
{
	u->user_us = scan_value(text, "user_usec ", 0);
	u->system_us = scan_value(text, "system_usec ", 0);
	u->throttled_us = scan_value(text, "throttled_usec ", 0);
}

/* A line for each disk. */
void usage_parse_io(const char *text, Tenon__ExecUse *u)
{
	do {
		const char *read = scan_pair(text, "rbytes="), *written = scan_pair(text, "wbytes=");
		if (read)
			u->read_bytes = scan_sum(u->read_bytes, scan_number(&read));
		if (written)
			u->written_bytes = scan_sum(u->written_bytes, scan_number(&written));
	} while (scan_next_line(&text));
}

static uint64_t read_number(int dir, const char *name, char *text, size_t size)
{
	const char *p = text;
	return scan_file(dir, name, text, size) < 0 ? 0 : scan_number(&p);
}

uint64_t usage_oom_kills(int dir, char *text, size_t size)
{
	return scan_file(dir, "memory.events", text, size) < 0 ? 0 : scan_value(text, "oom_kill ", 0);
}

void usage_read(int dir, Tenon__ExecUse *u, char *text, size_t size)
{
	if (scan_file(dir, "cpu.stat", text, size) > 0)
		usage_parse_cpu(text, u);
	if (scan_file(dir, "io.stat", text, size) > 0)
		usage_parse_io(text, u);
	u->memory_bytes = read_number(dir, "memory.current", text, size);
	u->memory_peak_bytes = read_number(dir, "memory.peak", text, size);
	u->processes = scan_u32(read_number(dir, "pids.current", text, size));
	u->oom_kills = usage_oom_kills(dir, text, size);
}
