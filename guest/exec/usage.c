#include "guest/exec/usage.h"

#include "guest/scan.h"

#define TEXT_SIZE 4096 /* the disks of "io.stat", a hundred bytes each */

void usage_parse_cpu(const char *text, struct usage *u)
{
	u->user_us = scan_value(text, "user_usec ", 0);
	u->system_us = scan_value(text, "system_usec ", 0);
	u->throttled_us = scan_value(text, "throttled_usec ", 0);
}

/* A line for each disk. */
void usage_parse_io(const char *text, struct usage *u)
{
	do {
		const char *read = scan_pair(text, "rbytes="), *written = scan_pair(text, "wbytes=");
		if (read)
			u->read_bytes = scan_sum(u->read_bytes, scan_number(&read));
		if (written)
			u->written_bytes = scan_sum(u->written_bytes, scan_number(&written));
	} while (scan_next_line(&text));
}

uint64_t usage_read_number(int dir, const char *file)
{
	char text[32];
	const char *p = text;
	return scan_file(dir, file, text, sizeof text) < 0 ? 0 : scan_number(&p);
}

void usage_read(int dir, struct usage *u)
{
	char text[TEXT_SIZE];
	*u = (struct usage){0};
	if (scan_file(dir, "cpu.stat", text, sizeof text) > 0)
		usage_parse_cpu(text, u);
	if (scan_file(dir, "io.stat", text, sizeof text) > 0)
		usage_parse_io(text, u);
	if (scan_file(dir, "memory.events", text, sizeof text) > 0)
		u->oom_kills = scan_value(text, "oom_kill ", 0);
	u->memory_peak = usage_read_number(dir, "memory.peak");
}

static uint64_t since(uint64_t earlier, uint64_t now)
{
	return now > earlier ? now - earlier : 0;
}

struct usage usage_since(const struct usage *earlier, const struct usage *now)
{
	return (struct usage){
		.user_us = since(earlier->user_us, now->user_us),
		.system_us = since(earlier->system_us, now->system_us),
		.throttled_us = since(earlier->throttled_us, now->throttled_us),
		.read_bytes = since(earlier->read_bytes, now->read_bytes),
		.written_bytes = since(earlier->written_bytes, now->written_bytes),
		.oom_kills = since(earlier->oom_kills, now->oom_kills),
		.memory_peak = now->memory_peak > earlier->memory_peak ? now->memory_peak : 0,
	};
}
